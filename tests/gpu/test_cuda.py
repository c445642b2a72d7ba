"""The CUDA runtime on a real GPU, compared with float32 torch."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from services.embedder.models.cuda_graphs import (
    CudaGraphRuntime,
    EagerRunner,
    ShapeRunners,
    cast_transformer,
)
from services.embedder.models.model import Vectors
from services.embedder.models.runtime_selection import MIN_COSINE, RuntimeOptions
from services.embedder.models.runtimes import TorchRuntime
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
    load_sentence_transformer,
)

pytestmark = pytest.mark.gpu
TEXTS = [f"{'what is a meme and who drew it ' * (n % 9)}number {n}?" for n in range(400)]


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return load_sentence_transformer(DEFAULT_TEXT_MODEL)[0]


@pytest.fixture(scope="module")
def batch(model: SentenceTransformer) -> list[list[int]]:
    tokenizer = model.tokenizer.backend_tokenizer
    return [one.ids for one in tokenizer.encode_batch(TEXTS)]


@pytest.fixture(scope="module")
def expected(model: SentenceTransformer, batch: list[list[int]]) -> Vectors:
    return TorchRuntime(model, 0).compute(batch)


def min_cosine(rows: Vectors, expected: Vectors) -> float:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return float((unit * expected).sum(1).min())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_graphs_agree_with_float32(
    model: SentenceTransformer, batch: list[list[int]], expected: Vectors, dtype: torch.dtype
) -> None:
    rows = CudaGraphRuntime(model, 0, dtype).compute(batch)
    assert min_cosine(rows, expected) > (0.9999 if dtype == torch.float16 else 0.999)


def test_graphs_are_captured_and_replayed_with_new_inputs(
    model: SentenceTransformer,
    batch: list[list[int]],
    expected: Vectors,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runtime = CudaGraphRuntime(model, 0, torch.float16)
    for first in range(0, 64, 8):
        rows = runtime.compute(batch[first : first + 8])
        assert min_cosine(rows, expected[first : first + 8]) > 0.9999
    assert not caplog.records  # a graph that cannot be captured is logged


def test_workers_compute_at_the_same_time(
    model: SentenceTransformer, batch: list[list[int]], expected: Vectors
) -> None:
    runtime = CudaGraphRuntime(model, 0, torch.float16)
    parts = [range(first, first + 16) for first in range(0, 400, 16)] * 8
    with ThreadPoolExecutor(runtime.workers) as pool:
        found = list(pool.map(lambda part: runtime.compute([batch[n] for n in part]), parts))
    for part, rows in zip(parts, found, strict=True):
        assert min_cosine(rows, expected[list(part)]) > 0.9999


def test_a_shape_without_a_graph_is_computed_eagerly(
    model: SentenceTransformer, batch: list[list[int]], expected: Vectors
) -> None:
    forward = cast_transformer(model, torch.float16)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    shapes = ShapeRunners(lambda *size: EagerRunner(forward, size, stream), 0, 256)
    assert min_cosine(shapes.compute(batch), expected) > 0.9999


def test_a_model_selects_its_runtime_by_trial(tmp_path: Path) -> None:
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL, RuntimeOptions("auto", tmp_path))
    tried = {(trial.runtime, trial.dtype) for trial in model.info.trials}
    assert {("torch", "float32"), ("cuda", "float16")} <= tried
    assert (model.info.runtime, model.info.device[:4]) == ("cuda", "cuda")
    assert max(trial.min_cosine for trial in model.info.trials) >= MIN_COSINE
