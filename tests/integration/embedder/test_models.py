"""Several models in a real embedder: loaded at startup or lazily, replaced, trusted or not."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from services.embedder.models.model import ModelLoadError
from services.embedder.models.runtime_selection import RuntimeOptions
from services.embedder.models.sentence_transformer import SentenceTransformerModel
from tests.embedder_process import EmbedderProcess, request
from tests.refusals import refusal
from tests.small_models import PROMPTS, cross_encoder, sentence_model, with_own_code
from tests.stack import wait_until

SERVICE = "memetwin.embedder.v1.EmbedderService"
SERVING = health_pb2.HealthCheckResponse.SERVING
CALLERS = 16


class Folders:
    """Models on disk; ``served`` is a symbolic link that tests point to another model."""

    def __init__(self, folder: Path) -> None:
        self.first, self.second = (sentence_model(folder / name, n) for n, name in enumerate("ab"))
        self.served, self.lazy = folder / "served", sentence_model(folder / "lazy", 3)
        self.reranker, self.proof = cross_encoder(folder / "reranker"), folder / "proof"
        self.custom = with_own_code(sentence_model(folder / "custom"), self.proof)
        self.exports = folder / "exports"
        self.point(self.first)

    def point(self, target: str) -> None:
        """Point the link to another folder, atomically."""
        link = self.served.with_suffix(".new")
        link.symlink_to(target)
        link.replace(self.served)

    def environment(self, **more: str) -> dict[str, str]:
        return os.environ | {
            "MEMETWIN_TEXT_MODEL": str(self.served),
            "MEMETWIN_MODELS": f"{self.reranker}, {self.custom}",
            "MEMETWIN_LAZY_MODELS": self.lazy,
            "MEMETWIN_EXPORTS": str(self.exports),
            **more,
        }


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def process(folders: Folders) -> Iterator[EmbedderProcess]:
    running = EmbedderProcess(folders.environment(), unready=(folders.lazy, folders.custom))
    yield running
    running.stop()


def serves(process: EmbedderProcess, name: str) -> bool:
    stub: Any = health_pb2_grpc.HealthStub(process.channel)
    status = stub.Check(health_pb2.HealthCheckRequest(service=name)).status
    return bool(status == SERVING)


def is_loaded(process: EmbedderProcess, name: str) -> bool:
    return process.stub.GetModel(embedder_pb2.GetModelRequest(name=name)).model.ready


def test_a_lazy_model_is_loaded_by_the_first_request(
    process: EmbedderProcess, folders: Folders
) -> None:
    assert not is_loaded(process, folders.lazy)
    assert serves(process, f"{SERVICE}/{folders.lazy}")
    reply = process.stub.Embed(request(["a cat"], model=folders.lazy), timeout=60)
    assert (reply.model, reply.dimensions) == (folders.lazy, 32)
    assert is_loaded(process, folders.lazy)


def test_a_model_that_is_not_a_default_may_rerank(
    process: EmbedderProcess, folders: Folders
) -> None:
    reply = process.stub.Rerank(
        embedder_pb2.RerankRequest(model=folders.reranker, query="cat", texts=["a", "cat"]),
        timeout=60,
    )
    assert len(reply.scores) == 2


def test_code_in_a_folder_is_not_executed_and_other_models_serve(
    process: EmbedderProcess, folders: Folders
) -> None:
    wait_until(lambda: serves(process, SERVICE))
    assert not serves(process, f"{SERVICE}/{folders.custom}")
    assert serves(process, f"{SERVICE}/{folders.served}")
    refused = refusal(process.stub.Embed, request(["a cat"], model=folders.custom))
    assert refused[:2] == (grpc.StatusCode.UNAVAILABLE, "MODEL_FAILED")
    assert not folders.proof.exists()


def test_code_in_a_folder_is_executed_where_the_operator_trusts_it(folders: Folders) -> None:
    with pytest.raises(ModelLoadError, match="MEMETWIN_TRUSTED_MODELS"):
        SentenceTransformerModel.load(folders.custom, RuntimeOptions("torch", folders.exports))
    assert not folders.proof.exists()
    environment = folders.environment(MEMETWIN_TRUSTED_MODELS=f"x,{folders.custom}")
    process = EmbedderProcess(environment, unready=[folders.lazy])
    reply = process.stub.Embed(request(["a cat"], model=folders.custom), timeout=60)
    process.stop()
    assert folders.proof.exists()
    assert np.frombuffer(reply.vectors, "<f4").shape == (32,)


def test_queries_and_passages_follow_the_prompts_of_the_model(
    process: EmbedderProcess, folders: Folders
) -> None:
    tasks = {"query": embedder_pb2.TASK_QUERY, "passage": embedder_pb2.TASK_DOCUMENT}
    plain = vectors(process, "a cat")
    for name, task in tasks.items():
        found = vectors(process, "a cat", task=task)
        assert found == pytest.approx(vectors(process, PROMPTS[name] + "a cat"), abs=1e-4)
        assert float(found @ plain) < 0.999


def vectors(process: EmbedderProcess, text: str, **options: Any) -> Any:
    return np.frombuffer(process.stub.Embed(request([text], **options), timeout=120).vectors, "<f4")


async def test_a_model_is_replaced_without_a_failed_request(
    process: EmbedderProcess, folders: Folders
) -> None:
    stop, digests = asyncio.Event(), list[str]()
    answered, replaced, answered_by_new = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with grpc.aio.insecure_channel(process.address) as channel:
        stub: Any = embedder_pb2_grpc.EmbedderServiceStub(channel)

        async def call(caller: int) -> None:
            count = 0
            while not stop.is_set():
                count += 1
                texts = [f"cat {caller} {count} {n}" for n in range(8)]
                digests.append((await stub.Embed(request(texts), timeout=120)).model_digest)
                if len(digests) == 100:
                    answered.set()
                if digests[-1] != digests[0]:
                    replaced.set()
                if digests.count(digests[-1]) == 100 and replaced.is_set():
                    answered_by_new.set()

        callers = [asyncio.create_task(call(number)) for number in range(CALLERS)]
        await asyncio.wait_for(answered.wait(), 120)
        [old] = set(digests)
        folders.point(folders.second)
        process.process.send_signal(signal.SIGHUP)
        await asyncio.wait_for(answered_by_new.wait(), 120)
        stop.set()
        await asyncio.gather(*callers)
    new = digests[-1]
    assert new != old
    assert set(digests) == {old, new}
    first = digests.index(new)
    # Calls that were in flight when the model was replaced may still return vectors of the old one.
    assert old not in digests[first + CALLERS :]


def test_a_model_that_cannot_be_reloaded_keeps_serving(
    process: EmbedderProcess, folders: Folders, tmp_path: Path
) -> None:
    def failures() -> int:
        lines = process.log().splitlines()
        return sum("model failed to load" in line and str(folders.served) in line for line in lines)

    before, failed = digest(process), failures()
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "no.Such"}]))
    folders.point(str(tmp_path))
    process.process.send_signal(signal.SIGHUP)
    wait_until(lambda: failures() > failed, 120)
    assert digest(process) == before
    assert serves(process, SERVICE)
    folders.point(folders.first)
    process.process.send_signal(signal.SIGHUP)
    wait_until(lambda: digest(process) != before, 120)


def digest(process: EmbedderProcess) -> str:
    return process.stub.Embed(request(["a cat"]), timeout=120).model_digest
