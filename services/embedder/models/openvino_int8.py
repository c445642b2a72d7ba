"""Makes a converted model's matrices small: 8 bits a number, and one matrix of those that share."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino import opset13 as ops

_MOST = 127
_TINY = np.finfo(np.float32).tiny
# So many numbers of a token may share a scale, the first that fits. With 96, short texts take a
# twentieth longer; with 192, vectors stray further from float32's (a lone word's cosine is .989).
_GROUPS = (128, 96, 64, 32)
Matrix = NDArray[np.float32]


def quantise(model: Any) -> tuple[Any, int]:
    """Return a copy with matrices of 8 bits, and how many numbers of a token may share a scale.

    Each row of a matrix has a scale. They are written as OpenVINO knows them: codes, converted,
    times scale. What is multiplied with them is then brought to 8 bits, too, group by group of a
    token's numbers, while the model runs.

    Raises:
        ValueError: rows are of lengths that no group divides.
    """
    copy = model.clone()
    _join(copy)
    widths = set()
    for node in list(_products(copy)):
        matrix = _matrix(node)
        widths.add(matrix.shape[1])
        scale = np.maximum(np.abs(matrix).max(1, keepdims=True) / _MOST, _TINY).astype(np.float32)
        codes = ops.convert(ops.constant(np.round(matrix / scale).astype(np.int8)), "f32")
        _replace(node, ops.multiply(codes, ops.constant(scale)))
    copy.validate_nodes_and_infer_types()
    fits = [group for group in _GROUPS if not any(width % group for width in widths)]
    if not fits:
        raise ValueError(f"no group of {_GROUPS} divides rows of {sorted(widths)}")
    return copy, fits[0]


def _join(model: Any) -> None:
    """Make one product of those that multiply the same, such as an attention's three: one read."""
    sharing = defaultdict(list)
    for node in _products(model):
        source = node.input_value(0)
        sharing[source.get_node().get_friendly_name(), source.get_index()].append(node)
    for nodes in sharing.values():
        sums = [_biased(node) for node in nodes]
        if len(nodes) > 1 and all(sums):
            _join_some(nodes, [one for one in sums if one])


def _join_some(nodes: Sequence[Any], sums: Sequence[tuple[Any, Matrix]]) -> None:
    matrices = [_matrix(node) for node in nodes]
    whole = ops.matmul(nodes[0].input_value(0), ops.constant(np.concatenate(matrices)), False, True)
    bias = np.concatenate([bias for _, bias in sums])[None, None]
    lengths = np.array([len(matrix) for matrix in matrices])
    parts = ops.variadic_split(
        ops.add(whole, ops.constant(bias)), ops.constant(np.int64(-1)), ops.constant(lengths)
    )
    for number, (node, _) in enumerate(sums):
        node.output(0).replace(parts.output(number))


def _products(model: Any) -> Iterator[Any]:
    """Yield the multiplications by a constant matrix."""
    for node in model.get_ordered_ops():
        if (
            node.get_type_name() == "MatMul"
            and node.input_value(1).get_node().get_type_name() == "Constant"
            and not node.get_attributes()["transpose_a"]
        ):
            yield node


def _matrix(product: Any) -> Matrix:
    """Return a product's matrix, float32 [outputs, inputs]."""
    matrix: Matrix = product.input_value(1).get_node().data
    return matrix if product.get_attributes()["transpose_b"] else matrix.T


def _biased(product: Any) -> tuple[Any, Matrix] | None:
    """Return the sum that adds a constant to a product, and nothing else uses; and the constant."""
    users = [user.get_node() for user in product.output(0).get_target_inputs()]
    if len(users) != 1 or users[0].get_type_name() != "Add":
        return None
    for value in users[0].input_values():
        if value.get_node().get_type_name() == "Constant":
            return users[0], value.get_node().data.reshape(-1)
    return None


def _replace(product: Any, matrix: Any) -> None:
    new = ops.matmul(product.input_value(0), matrix, False, True)
    product.output(0).replace(new.output(0))
