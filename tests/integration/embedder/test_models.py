"""Models side by side in a real embedder: at the start, lazily, swapped, trusted or not."""

import asyncio
import json
import os
import signal
import time
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


class Folders:
    """Models on disk; ``served`` is a link that is pointed elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.first, self.second = (sentence_model(folder / name, n) for n, name in enumerate("ab"))
        self.served, self.lazy = folder / "served", sentence_model(folder / "lazy", 3)
        self.reranker, self.ran = cross_encoder(folder / "reranker"), folder / "ran"
        self.strange = with_own_code(sentence_model(folder / "strange"), self.ran)
        self.exports = folder / "exports"
        self.point(self.first)

    def point(self, target: str) -> None:
        """Point the link elsewhere, in one step."""
        beside = self.served.with_suffix(".new")
        beside.symlink_to(target)
        beside.replace(self.served)

    def environment(self, **more: str) -> dict[str, str]:
        return os.environ | {
            "MEMETWIN_TEXT_MODEL": str(self.served),
            "MEMETWIN_MODELS": f"{self.reranker}, {self.strange}",
            "MEMETWIN_LAZY_MODELS": self.lazy,
            "MEMETWIN_EXPORTS": str(self.exports),
            **more,
        }


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def process(folders: Folders) -> Iterator[EmbedderProcess]:
    running = EmbedderProcess(folders.environment(), unready=(folders.lazy, folders.strange))
    yield running
    running.stop()


def serves(process: EmbedderProcess, name: str) -> bool:
    stub: Any = health_pb2_grpc.HealthStub(process.channel)
    asked = health_pb2.HealthCheckRequest(service=name)
    return bool(stub.Check(asked).status == SERVING)


def is_loaded(process: EmbedderProcess, name: str) -> bool:
    return process.stub.GetModel(embedder_pb2.GetModelRequest(name=name)).model.ready


def test_a_lazy_model_is_loaded_when_it_is_first_asked_for(
    process: EmbedderProcess, folders: Folders
) -> None:
    assert not is_loaded(process, folders.lazy)
    assert serves(process, f"{SERVICE}/{folders.lazy}")
    reply = process.stub.Embed(request(["a cat"], model=folders.lazy), timeout=60)
    assert (reply.model, reply.dimensions) == (folders.lazy, 32)
    assert is_loaded(process, folders.lazy)


def test_a_further_model_may_rerank(process: EmbedderProcess, folders: Folders) -> None:
    asked = embedder_pb2.RerankRequest(model=folders.reranker, query="cat", texts=["a", "cat"])
    assert len(process.stub.Rerank(asked, timeout=30).scores) == 2


def test_a_folders_own_code_is_not_run_and_others_serve(
    process: EmbedderProcess, folders: Folders
) -> None:
    wait_until(lambda: serves(process, SERVICE))
    assert not serves(process, f"{SERVICE}/{folders.strange}")
    assert serves(process, f"{SERVICE}/{folders.served}")
    refused = refusal(process.stub.Embed, request(["a cat"], model=folders.strange))
    assert refused[:2] == (grpc.StatusCode.UNAVAILABLE, "MODEL_FAILED")
    assert not folders.ran.exists()


def test_a_folders_own_code_is_run_where_the_operator_names_it(folders: Folders) -> None:
    with pytest.raises(ModelLoadError, match="MEMETWIN_TRUSTED_MODELS"):
        SentenceTransformerModel.load(folders.strange, RuntimeOptions("torch", folders.exports))
    assert not folders.ran.exists()
    environment = folders.environment(MEMETWIN_TRUSTED_MODELS=f"x,{folders.strange}")
    process = EmbedderProcess(environment, unready=[folders.lazy])
    reply = process.stub.Embed(request(["a cat"], model=folders.strange), timeout=60)
    process.stop()
    assert folders.ran.exists()
    assert np.frombuffer(reply.vectors, "<f4").shape == (32,)


def test_questions_and_passages_get_the_models_own_prompts(
    process: EmbedderProcess, folders: Folders
) -> None:
    tasks = {"query": embedder_pb2.TASK_QUERY, "passage": embedder_pb2.TASK_DOCUMENT}
    plain = vectors(process, "a cat")
    for name, task in tasks.items():
        found = vectors(process, "a cat", task=task)
        assert found == pytest.approx(vectors(process, PROMPTS[name] + "a cat"), abs=1e-5)
        assert float(found @ plain) < 0.999


def vectors(process: EmbedderProcess, text: str, **options: Any) -> Any:
    return np.frombuffer(process.stub.Embed(request([text], **options), timeout=30).vectors, "<f4")


async def test_a_model_is_swapped_without_a_dropped_request(
    process: EmbedderProcess, folders: Folders
) -> None:
    stop, swapped, digests = asyncio.Event(), asyncio.Event(), list[str]()
    async with grpc.aio.insecure_channel(process.address) as channel:
        stub: Any = embedder_pb2_grpc.EmbedderServiceStub(channel)

        async def call(caller: int) -> None:
            count = 0
            while not stop.is_set():
                count += 1
                texts = [f"cat {caller} {count} {n}" for n in range(8)]
                digests.append((await stub.Embed(request(texts), timeout=30)).model_digest)
                if digests[-1] != digests[0]:
                    swapped.set()

        callers = [asyncio.create_task(call(number)) for number in range(16)]
        await asyncio.sleep(1)
        [old] = set(digests)
        folders.point(folders.second)
        process.process.send_signal(signal.SIGHUP)
        await asyncio.wait_for(swapped.wait(), 60)
        await asyncio.sleep(1)
        stop.set()
        await asyncio.gather(*callers)
    new = digests[-1]
    assert new != old
    assert set(digests) == {old, new}
    assert len(digests) > 200
    first = digests.index(new)
    # Calls that were on their way when the new version came may still bring the old one's vectors.
    assert old not in digests[first + 16 :]


def test_a_model_that_cannot_be_read_anew_serves_on(
    process: EmbedderProcess, folders: Folders, tmp_path: Path
) -> None:
    before = digest(process)
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "no.Such"}]))
    folders.point(str(tmp_path))
    process.process.send_signal(signal.SIGHUP)
    time.sleep(2)
    assert digest(process) == before
    assert serves(process, SERVICE)
    folders.point(folders.first)
    process.process.send_signal(signal.SIGHUP)
    wait_until(lambda: digest(process) != before, 30)


def digest(process: EmbedderProcess) -> str:
    return process.stub.Embed(request(["a cat"]), timeout=30).model_digest
