"""Small copies of models for retrieval, compared over gRPC with sentence-transformers."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from services import grpc_server
from services.embedder.__main__ import wire
from services.embedder.models import runtime_selection
from services.embedder.models.runtime_selection import MIN_BATCH_INVARIANCE, RuntimeOptions
from services.embedder.models.runtime_trials import unit_length
from services.embedder.models.runtimes import MAX_SHORT_TOKENS
from services.embedder.models.sentence_transformer import SentenceTransformerModel
from services.embedder.settings import Settings
from tests import retrieval_models
from tests.embedder_process import request
from tests.retrieval_models import ORIGINALS
from tests.stack import MESSAGE_LIMIT

LONG = "the capital of France is " * 400
TEXTS = ["What is the capital of France?", "Где находится башня?", "埃菲尔铁塔在哪里？", "x", LONG]
TASKS = {"query": embedder_pb2.TASK_QUERY, "document": embedder_pb2.TASK_DOCUMENT}
# One of each class of transformers, with the runtimes that OpenVINO has for it.
CLASSES = [
    "intfloat/multilingual-e5-base",
    "ibm-granite/granite-embedding-small-english-r2",
    "nomic-ai/nomic-embed-text-v1.5",
    "Qwen/Qwen3-Embedding-0.6B",
]


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Select no bfloat16, whose vectors differ from those of float32 by 1e-3."""
    monkeypatch.setattr(runtime_selection, "_has_fast_bfloat16", lambda device: False)


@contextlib.asynccontextmanager
async def embedder(folder: str, exports: Path) -> AsyncIterator[Any]:
    """Run an embedder with one model; yield its stub."""
    settings = Settings(
        text_model="", image_model="", lazy_models=folder, runtime="torch", exports=str(exports)
    )
    async with (
        wire(settings) as services,
        grpc_server.Server(services, "127.0.0.1:0") as server,
        grpc.aio.insecure_channel(
            f"127.0.0.1:{server.port}", [("grpc.max_receive_message_length", MESSAGE_LIMIT)]
        ) as channel,
    ):
        stub: Any = embedder_pb2_grpc.EmbedderServiceStub(channel)
        yield stub


async def vectors(stub: Any, **options: Any) -> Any:
    reply = await stub.Embed(request(TEXTS, **options), timeout=300)
    return np.frombuffer(reply.vectors, "<f4").reshape(len(TEXTS), -1), list(reply.truncated)


def reference(name: str, folder: str) -> SentenceTransformer:
    """Load a model by the library, with the prompts of the model's card."""
    original = ORIGINALS[name]
    prompts = {"query": original.query, "document": original.document}
    model = SentenceTransformer(
        folder, device="cpu", prompts=prompts, model_kwargs={"dtype": torch.float32}
    )
    model.max_seq_length = min(model.max_seq_length or 0, 8192)
    return model


@pytest.mark.parametrize(
    "name",
    [
        *CLASSES,
        *(pytest.param(one, marks=pytest.mark.long) for one in ORIGINALS if one not in CLASSES),
    ],
)
async def test_a_model_has_its_prompts_its_length_and_its_pooling(
    name: str, tmp_path: Path
) -> None:
    original, folder = ORIGINALS[name], retrieval_models.save(name, tmp_path)
    library = reference(name, folder)
    async with embedder(folder, tmp_path / "exports") as stub:
        plain, _ = await vectors(stub, model=folder)
        expected = library.encode(TEXTS, normalize_embeddings=True)
        np.testing.assert_allclose(plain, expected, atol=1e-4)
        model = (await stub.GetModel(embedder_pb2.GetModelRequest(name=folder))).model
        assert model.max_tokens == (original.max_tokens or 8192)
        assert (model.query_prompt, model.document_prompt) == (original.query, original.document)
        assert model.readability.languages
        for task, code in TASKS.items():
            found, truncated = await vectors(stub, model=folder, task=code)
            expected = library.encode(TEXTS, prompt_name=task, normalize_embeddings=True)
            np.testing.assert_allclose(found, expected, atol=1e-4)
            assert truncated == [False] * 4 + [model.max_tokens <= 512]


@pytest.mark.parametrize("name", CLASSES)
def test_every_runtime_of_a_class_agrees_with_torch(name: str, tmp_path: Path) -> None:
    original, folder = ORIGINALS[name], retrieval_models.save(name, tmp_path)
    model = SentenceTransformerModel.load(folder, RuntimeOptions("exact", tmp_path / "exports"))
    trials = {(one.runtime, one.dtype): one for one in model.info.trials}
    assert ("openvino", "float32") in trials
    for trial in model.info.trials:
        assert trial.min_cosine >= 0.99
        assert trial.batch_invariance >= MIN_BATCH_INVARIANCE
    prepared = model.prepare(TEXTS, "document")
    assert (prepared[-1].tokens > MAX_SHORT_TOKENS) == (model.info.max_tokens > MAX_SHORT_TOKENS)
    expected = reference(name, folder).encode(
        TEXTS, prompt=original.document, normalize_embeddings=True
    )
    for count in (len(TEXTS), len(TEXTS) - 1):  # with the long text, and without
        found = unit_length(model.encode(prepared[:count]))
        assert (found * expected[:count]).sum(1).min() >= 0.999


def test_a_model_that_openvino_crashes_on_is_served(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On processors with AMX, OpenVINO 2026.4 crashes when it compiles Qwen3 in bfloat16."""
    monkeypatch.setattr(runtime_selection, "_has_fast_bfloat16", lambda device: True)
    name = "Qwen/Qwen3-Embedding-0.6B"
    folder = retrieval_models.save(name, tmp_path)
    model = SentenceTransformerModel.load(folder, RuntimeOptions("auto", tmp_path / "exports"))
    expected = reference(name, folder).encode(TEXTS, normalize_embeddings=True)
    found = unit_length(model.encode(model.prepare(TEXTS, "")))
    assert (found * expected).sum(1).min() >= 0.99
