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
Floats = np.ndarray[Any, np.dtype[np.float32]]


def random(*shape: int) -> Floats:
    return RANDOM.normal(size=shape).astype(np.float32)


def parameter(width: int = 64) -> Any:
    return ops.parameter([-1, -1, width], np.float32)


def linear(inputs: Any, matrix: Floats, bias: Floats | None, *, transposed: bool = True) -> Any:
    """Return a product with a matrix [outputs, inputs], plus a bias."""
    constant = ops.constant(matrix if transposed else np.ascontiguousarray(matrix.T))
    product = ops.matmul(inputs, constant, False, transposed)
    return product if bias is None else ops.add(product, ops.constant(bias))


def model_of(inputs: Any, *outputs: Any) -> Any:
    return ov.Model([ops.result(output) for output in outputs], [inputs], "model")


def products(model: Any) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]


def dequantised(product: Any) -> Floats:
    """Return the matrix of a quantised product: converted codes times scales."""
    converted, scales = product.input_value(1).get_node().input_values()
    assert converted.get_node().get_type_name() == "Convert"
    codes = converted.get_node().input_value(0).get_node().data
    assert codes.dtype == np.int8
    matrix: Floats = codes * scales.get_node().data
    return matrix


def assert_close(found: Floats, expected: Floats) -> None:
    """Check that two matrices are as close as 8 bits per row allow."""
    tolerance = np.abs(expected).max(1, keepdims=True) / 127 / 2 + 1e-5
    assert (np.abs(found - expected) <= tolerance).all()


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


def test_products_of_one_input_are_fused() -> None:
    tokens = parameter()
    matrices = [random(size, 64) for size in (32, 64, 96)]
    biases = [random(1, 1, len(matrix)) for matrix in matrices]
    parts = [linear(tokens, *part) for part in zip(matrices, biases, strict=True)]
    model = model_of(tokens, *parts)
    quantised, group = quantise(model)
    assert group == 64
    assert len(products(model)) == 3  # the model itself is not changed
    [product] = products(quantised)
    [add] = [target.get_node() for target in product.output(0).get_target_inputs()]
    [split] = [target.get_node() for target in add.output(0).get_target_inputs()]
    ends = np.cumsum(split.input_value(2).get_node().data)[:-1]
    found = np.split(dequantised(product), ends)
    found_biases = np.split(add.input_value(1).get_node().data.reshape(-1), ends)
    for result, matrix, bias in zip(quantised.get_results(), matrices, biases, strict=True):
        part = result.input_value(0)
        assert part.get_node() == split
        assert_close(found[part.get_index()], matrix)
        assert found_biases[part.get_index()].tolist() == bias.reshape(-1).tolist()


def test_products_that_cannot_be_fused_are_quantised_one_by_one() -> None:
    tokens = parameter()
    first, second, third = random(128, 64), random(32, 128), random(64, 64)
    hidden = linear(tokens, first, random(1, 1, 128), transposed=False)
    model = model_of(tokens, linear(hidden, second, random(1, 1, 32)), linear(tokens, third, None))
    quantised, group = quantise(model)
    assert group == 64
    found = {matrix.shape: matrix for matrix in map(dequantised, products(quantised))}
    assert len(found) == 3
    for expected in (first, second, third):
        assert_close(found[expected.shape], expected)


def test_other_products_are_left_as_they_are() -> None:
    tokens = parameter()
    between_inputs = ops.matmul(tokens, tokens, False, True)
    model = model_of(tokens, between_inputs, linear(tokens, random(32, 64), None))
    quantised, _ = quantise(model)
    assert len(products(quantised)) == 2


def test_rows_that_no_group_size_divides_are_refused() -> None:
    tokens = parameter(50)
    with pytest.raises(ValueError, match="50"):
        quantise(model_of(tokens, linear(tokens, random(10, 50), None)))
