from typing import Any

import numpy as np
import pytest

from services.embedder.models.openvino import import_openvino

ov = import_openvino()
from openvino import opset13 as ops  # noqa: E402 - after import_openvino()

from services.embedder.models.openvino_int8 import (  # noqa: E402
    group_size,
    quantise,
    quantise_rows,
)

RANDOM = np.random.default_rng(1)


def linear(inputs: Any, outputs: int, *, bias: bool = True, transposed: bool = True) -> Any:
    """Return a product with a random matrix, plus a random bias."""
    width = inputs.get_output_partial_shape(0)[-1].get_length()
    matrix = RANDOM.normal(size=(outputs, width)).astype(np.float32)
    constant = ops.constant(matrix if transposed else np.ascontiguousarray(matrix.T))
    product = ops.matmul(inputs, constant, False, transposed)
    if not bias:
        return product
    return ops.add(product, ops.constant(RANDOM.normal(size=(1, 1, outputs)).astype(np.float32)))


def parameter(width: int = 64) -> Any:
    return ops.parameter([-1, -1, width], np.float32)


def operations(model: Any, kind: str) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == kind]


def results(model: Any, width: int = 64) -> list[np.ndarray]:
    tokens = np.random.default_rng(2).normal(size=(2, 3, width)).astype(np.float32)
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return list(compiled(tokens).values())


def test_codes_times_scales_approximate_each_row() -> None:
    matrix = np.array([[1, -0.5, 0.25], [100, 50, -100], [0, 0, 0]], np.float32)
    codes, scales = quantise_rows(matrix)
    assert codes.dtype == np.int8
    assert np.abs(codes).max(1).tolist() == [127, 127, 0]
    error = np.abs(codes * scales - matrix).max(1)
    assert (error <= np.abs(matrix).max(1) / 127 / 2 + 1e-6).all()


def test_the_group_size_divides_all_rows() -> None:
    assert group_size({384, 1536}) == 128
    assert group_size({384, 96}) == 96
    assert group_size({32, 64}) == 32
    with pytest.raises(ValueError, match=r"divides rows of \[50, 64\]"):
        group_size({50, 64})


def test_products_of_one_input_are_fused_and_give_the_same_results() -> None:
    tokens = parameter()
    parts = [linear(tokens, size) for size in (32, 64, 96)]
    model = ov.Model([ops.result(part) for part in parts], [tokens], "attention")
    exact = results(model)
    quantised, _ = quantise(model)
    assert len(operations(model, "MatMul")) == 3  # the model itself is not changed
    assert len(operations(quantised, "MatMul")) == 1
    for found, expected in zip(results(quantised), exact, strict=True):
        assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_products_that_cannot_be_fused_are_quantised_one_by_one() -> None:
    tokens = parameter()
    hidden = linear(tokens, 128, transposed=False)
    other = linear(tokens, 64, bias=False)
    model = ov.Model([ops.result(linear(hidden, 32)), ops.result(other)], [tokens], "layers")
    exact = results(model)
    quantised, group = quantise(model)
    products = operations(quantised, "MatMul")
    assert len(products) == 3
    assert group == 64
    for product in products:
        codes, scales = product.input_value(1).get_node().input_values()
        assert codes.get_node().get_type_name() == "Convert"
        assert scales.get_node().data.shape[1] == 1
    for found, expected in zip(results(quantised), exact, strict=True):
        assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()


def test_rows_that_no_group_size_divides_are_refused() -> None:
    tokens = parameter(50)
    with pytest.raises(ValueError, match="50"):
        quantise(ov.Model([ops.result(linear(tokens, 10))], [tokens], "odd"))
