"""Quantises the matrices of a converted model to 8 bits, and fuses those with a common input."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino import opset13 as ops

_MAX_CODE = 127
_MIN_SCALE = np.finfo(np.float32).tiny
# Sizes of the groups of a token's activations that share a scale. The first one that fits is used.
# With 96, short texts take 5 % longer. With 192, vectors differ more from float32 vectors (the
# cosine of a single word is .989).
_GROUP_SIZES = (128, 96, 64, 32)
Matrix = NDArray[np.float32]


def quantise(model: Any) -> tuple[Any, int]:
    """Return a copy of a model with int8 matrices, and the group size of activations.

    Each row of a matrix has a scale. Matrices have the form that OpenVINO recognises: int8 codes,
    converted to float32, times scales. At run time OpenVINO then quantises the activations as well,
    with a scale for each group of a token's activations.

    Raises:
        ValueError: no group size divides the lengths of all rows.
    """
    copy = model.clone()
    _fuse_products(copy)
    lengths = set()
    for product in list(_products(copy)):
        matrix = _matrix(product)
        lengths.add(matrix.shape[1])
        codes, scales = quantise_rows(matrix)
        weights = ops.convert(ops.constant(codes), "f32")
        _replace_matrix(product, ops.multiply(weights, ops.constant(scales)))
    copy.validate_nodes_and_infer_types()
    return copy, group_size(lengths)


def quantise_rows(matrix: Matrix) -> tuple[NDArray[np.int8], Matrix]:
    """Quantise each row symmetrically: codes times scales approximate the matrix.

    Args:
        matrix: float32 [outputs, inputs].

    Returns:
        Codes from -127 to 127, int8 [outputs, inputs], and scales, float32 [outputs, 1].
    """
    largest = np.abs(matrix).max(1, keepdims=True)
    scales = np.maximum(largest / _MAX_CODE, _MIN_SCALE).astype(np.float32)
    return np.round(matrix / scales).astype(np.int8), scales


def group_size(lengths: set[int]) -> int:
    """Return the first group size that divides all lengths.

    Raises:
        ValueError: none does.
    """
    for size in _GROUP_SIZES:
        if not any(length % size for length in lengths):
            return size
    raise ValueError(f"no group size of {_GROUP_SIZES} divides rows of {sorted(lengths)}")


def _fuse_products(model: Any) -> None:
    """Fuse products with a common input, such as query, key and value of an attention layer."""
    by_input = defaultdict(list)
    for product in _products(model):
        source = product.input_value(0)
        by_input[source.get_node().get_friendly_name(), source.get_index()].append(product)
    for products in by_input.values():
        sums = [_add_bias(product) for product in products]
        if len(products) > 1 and all(sums):
            _fuse(products, [one for one in sums if one])


def _fuse(products: Sequence[Any], sums: Sequence[tuple[Any, Matrix]]) -> None:
    matrices = [_matrix(product) for product in products]
    fused = ops.matmul(
        products[0].input_value(0), ops.constant(np.concatenate(matrices)), False, True
    )
    bias = np.concatenate([bias for _, bias in sums])[None, None]
    lengths = np.array([len(matrix) for matrix in matrices])
    parts = ops.variadic_split(
        ops.add(fused, ops.constant(bias)), ops.constant(np.int64(-1)), ops.constant(lengths)
    )
    for position, (add, _) in enumerate(sums):
        add.output(0).replace(parts.output(position))


def _products(model: Any) -> Iterator[Any]:
    """Yield the products with a constant matrix."""
    for node in model.get_ordered_ops():
        if (
            node.get_type_name() == "MatMul"
            and node.input_value(1).get_node().get_type_name() == "Constant"
            and not node.get_attributes()["transpose_a"]
        ):
            yield node


def _matrix(product: Any) -> Matrix:
    """Return the constant matrix of a product, float32 [outputs, inputs]."""
    matrix: Matrix = product.input_value(1).get_node().data
    return matrix if product.get_attributes()["transpose_b"] else matrix.T


def _add_bias(product: Any) -> tuple[Any, Matrix] | None:
    """Return the Add node that is a product's only user and adds a constant, and that constant."""
    users = [user.get_node() for user in product.output(0).get_target_inputs()]
    if len(users) != 1 or users[0].get_type_name() != "Add":
        return None
    for value in users[0].input_values():
        if value.get_node().get_type_name() == "Constant":
            return users[0], value.get_node().data.reshape(-1)
    return None


def _replace_matrix(product: Any, matrix: Any) -> None:
    replacement = ops.matmul(product.input_value(0), matrix, False, True)
    product.output(0).replace(replacement.output(0))
