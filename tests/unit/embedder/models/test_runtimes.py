from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from services.embedder.models import runtimes
from services.embedder.models.runtimes import (
    MAX_SHORT_TOKENS,
    SplitByLength,
    TorchRuntime,
    pad_batch,
    write_padded,
)
from tests.fakes.runtimes import NoisyRuntime


class Sums(torch.nn.Module):
    """A model whose vector is the sum and the number of the attended token ids."""

    device = "cpu"

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        ids, mask = features["input_ids"], features["attention_mask"]
        return {"sentence_embedding": torch.stack([(ids * mask).sum(1), mask.sum(1)], 1).float()}


def test_short_rows_are_padded_and_masked() -> None:
    ids, mask = pad_batch([[5, 6, 7], [8]], 9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert ids.dtype == mask.dtype == np.dtype(np.int64)


def test_spare_rows_attend_to_one_token() -> None:
    ids, mask = np.full((3, 4), 99), np.full((3, 4), 99)
    write_padded([[5, 6]], 1, ids, mask)
    assert ids.tolist() == [[5, 6, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]


def test_torch_computes_each_row_from_its_own_tokens() -> None:
    runtime = TorchRuntime(Sums(), 7)
    vectors = runtime.compute([[1, 2, 3], [4]])
    assert vectors.tolist() == [[6, 3], [4, 1]]
    assert vectors.dtype == np.float32
    assert (runtime.dtype, TorchRuntime(Sums(), 7, half=True).dtype) == ("float32", "bfloat16")


def test_a_batch_with_a_long_text_goes_to_the_second_runtime() -> None:
    short = NoisyRuntime("short")
    runtime = SplitByLength(short, TorchRuntime(Sums(), 0))
    assert (runtime.name, runtime.dtype) == (short.name, short.dtype)
    assert (runtime.workers, runtime.batch_tokens) == (short.workers, short.batch_tokens)
    batch = [[1] * MAX_SHORT_TOKENS, [2]]
    assert runtime.compute(batch).tolist() == short.compute(batch).tolist()
    longer = [[1] * (MAX_SHORT_TOKENS + 1), [2]]
    assert runtime.compute(longer).tolist() == [[MAX_SHORT_TOKENS + 1] * 2, [2, 1]]


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_best_device_is_the_first_that_is_there(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert runtimes.best_device() == expected
