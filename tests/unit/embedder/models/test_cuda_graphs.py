"""What of the CUDA runtime needs no GPU: shapes, padding, and the cast_transformer model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from services.embedder.models.cuda_graphs import EagerRunner, ShapeRunners, cast_transformer
from services.embedder.models.model import Vectors
from services.embedder.models.runtimes import TokenIds, TorchRuntime, pad_batch
from tests.small_models import sentence_model


class Sums:
    """A shape whose vector is the sum of a row's own tokens, and how many they are."""

    def __init__(self, rows: int, length: int) -> None:
        self.ids = torch.full((rows, length), 999)
        self.mask = torch.full((rows, length), 999)

    def run(self) -> Vectors:
        assert self.mask.sum(1).min() > 0
        sums = (self.ids * self.mask).sum(1), self.mask.sum(1)
        rows: Vectors = torch.stack(sums, 1).float().numpy()
        return rows


def computed(shapes: ShapeRunners, *lengths: int) -> tuple[list[list[float]], list[list[float]]]:
    batch: Sequence[TokenIds] = [list(range(1, length + 1)) for length in lengths]
    expected = [[float(sum(tokens)), float(len(tokens))] for tokens in batch]
    return shapes.compute(batch).tolist(), expected


def test_batches_share_a_few_shapes_and_get_their_own_rows() -> None:
    made: list[tuple[int, int]] = []

    def make(rows: int, length: int) -> Sums:
        made.append((rows, length))
        return Sums(rows, length)

    shapes = ShapeRunners(make, 0, 60)
    for lengths in ([3], [5], [8, 1, 2], [7, 7, 7, 7], [50, 3], [60], [9] * 257):
        found, expected = computed(shapes, *lengths)
        assert found == expected
    assert made == [(1, 8), (4, 8), (2, 60), (1, 60), (512, 16)]


def test_what_is_longer_than_the_limit_is_computed_as_it_is() -> None:
    found, expected = computed(ShapeRunners(Sums, 0, 60), 70, 2)
    assert found == expected


def test_a_batch_is_padded_to_its_longest() -> None:
    ids, mask = pad_batch([[5, 6, 7], [8]], 9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert ids.dtype == mask.dtype == np.dtype(np.int64)


@pytest.mark.parametrize(
    ("dtype", "least"),
    [(torch.float32, 0.999999), (torch.float16, 0.9999), (torch.bfloat16, 0.999)],
)
def test_a_halved_model_agrees_with_the_whole_one(
    tmp_path: Path, dtype: torch.dtype, least: float
) -> None:
    model = SentenceTransformer(sentence_model(tmp_path), device="cpu")
    batch = [[2, 5, 6, 7, 3], [2, *range(5, 45), 3], [2, 9, 3]]
    expected = TorchRuntime(model, 0).compute(batch)
    forward = cast_transformer(model, dtype)
    rows = ShapeRunners(lambda *size: EagerRunner(forward, size), 0, 64).compute(batch)
    assert (rows * expected).sum(1).min() >= least
    assert next(model.parameters()).dtype == torch.float32
