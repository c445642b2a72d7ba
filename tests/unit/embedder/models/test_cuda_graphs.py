"""The parts of the CUDA runtime that need no GPU: shapes, padding, and the cast transformer."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from services.embedder.models.cuda_graphs import (
    CudaGraphRuntime,
    EagerRunner,
    ShapeRunners,
    cast_transformer,
    round_up,
)
from services.embedder.models.model import Vectors
from services.embedder.models.runtimes import TokenIds


class SumRunner:
    """A runner whose vector is the sum and the number of a row's tokens."""

    def __init__(self, rows: int, length: int) -> None:
        self.ids = torch.full((rows, length), 999)
        self.mask = torch.full((rows, length), 999)

    def run(self) -> Vectors:
        assert self.mask.sum(1).min() > 0
        sums = (self.ids * self.mask).sum(1), self.mask.sum(1)
        vectors: Vectors = torch.stack(sums, 1).float().numpy()
        return vectors


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, 8)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features | {"token_embeddings": self.embedding(features["input_ids"])}


class MeanPooling(nn.Module):
    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        assert features["token_embeddings"].dtype == torch.float32
        mask = features["attention_mask"][..., None]
        vectors = (features["token_embeddings"] * mask).sum(1) / mask.sum(1)
        return features | {"sentence_embedding": vectors}


class TinyModel(nn.Sequential):
    max_seq_length = 60

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(Transformer(), MeanPooling())


def computed(runners: ShapeRunners, *lengths: int) -> tuple[list[list[float]], list[list[float]]]:
    batch: Sequence[TokenIds] = [list(range(1, length + 1)) for length in lengths]
    expected = [[float(sum(tokens)), float(len(tokens))] for tokens in batch]
    return runners.compute(batch).tolist(), expected


def test_batches_share_a_few_shapes_and_get_their_own_rows() -> None:
    created: list[tuple[int, int]] = []

    def create(rows: int, length: int) -> SumRunner:
        created.append((rows, length))
        return SumRunner(rows, length)

    runners = ShapeRunners(create, 0, 60)
    for lengths in ([3], [5], [8, 1, 2], [7, 7, 7, 7], [50, 3], [60], [9] * 257):
        found, expected = computed(runners, *lengths)
        assert found == expected
    assert created == [(1, 8), (4, 8), (2, 60), (1, 60), (512, 16)]


def test_a_batch_beyond_the_limit_keeps_its_length() -> None:
    found, expected = computed(ShapeRunners(SumRunner, 0, 60), 70, 2)
    assert found == expected


@pytest.mark.parametrize(("size", "expected"), [(1, 2), (2, 2), (3, 5), (5, 5), (6, 10), (11, 15)])
def test_sizes_are_rounded_up(size: int, expected: int) -> None:
    assert round_up(size, (2, 5)) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_only_the_transformer_is_cast(dtype: torch.dtype) -> None:
    model = TinyModel()
    ids, mask = torch.tensor([[3, 4, 5], [6, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
    exact = model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]
    vectors = cast_transformer(model, dtype)(ids, mask)
    assert vectors.dtype == torch.float32
    assert next(model.parameters()).dtype == torch.float32
    assert torch.allclose(vectors, exact, atol=0 if dtype == torch.float32 else 0.02)


def test_the_eager_runner_computes_what_its_buffers_hold() -> None:
    model = TinyModel()
    forward = cast_transformer(model, torch.float32)
    runners = ShapeRunners(lambda *shape: EagerRunner(forward, shape), 0, 60)
    vectors = runners.compute([[3, 4], [5]])
    weights = model.state_dict()["0.embedding.weight"].numpy()
    np.testing.assert_allclose(vectors, [weights[3:5].mean(0), weights[5]], atol=1e-6)


def test_the_runtime_is_described() -> None:
    runtime = CudaGraphRuntime(TinyModel(), 0, torch.float16)
    assert (runtime.name, runtime.dtype, runtime.workers) == ("cuda", "float16", 4)
