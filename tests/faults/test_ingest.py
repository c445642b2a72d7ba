"""A service or Redis is killed during an ingest.

After it resumes, nothing is lost or duplicated.
"""

import os
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.cli.ingestion import Upload, send
from tests import processes as child_processes
from tests.conftest import ROOT
from tests.corpus import BROKEN, NOTES, PAGES, corpus, note, page
from tests.documents import read
from tests.pdf import pdf
from tests.ports import reserve_port
from tests.redis_server import RedisServer
from tests.stack import channel, wait_until

SERVICES = ("embedder", "search", "gateway")


class Processes:
    """Redis and the three services, each in its own process that can be killed and restarted."""

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis
        self.ports = {name: reserve_port() for name in SERVICES}
        self.metrics = f"127.0.0.1:{reserve_port()}"
        self.http = f"127.0.0.1:{reserve_port()}"
        self._settings = {
            "MEMETWIN_HTTP_LISTEN": self.http,
            "MEMETWIN_REDIS_URL": redis.url,
        }
        for name, port in self.ports.items():
            self._settings[f"MEMETWIN_{name.upper()}_LISTEN"] = f"127.0.0.1:{port}"
            self._settings[f"MEMETWIN_{name.upper()}_ADDRESS"] = f"127.0.0.1:{port}"
        self.running = {name: self.start(name) for name in SERVICES}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"services.{name}"]
        metrics = {"MEMETWIN_METRICS_LISTEN": self.metrics} if name == "embedder" else {}
        return child_processes.start(
            command, environment=os.environ | self._settings | metrics, folder=ROOT
        )

    def kill(self, name: str) -> None:
        if name == "redis":
            self._redis.kill()
            self._redis.start()
            return
        child_processes.kill(self.running[name])
        self.running[name] = self.start(name)

    def channel(self, name: str) -> grpc.Channel:
        return channel(f"127.0.0.1:{self.ports[name]}")

    def embedded(self) -> float:
        """Return how many texts the embedder has received since it started."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        counters = [one for one in lines if one.startswith("memetwin_embed_inputs_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in counters)

    def close(self) -> None:
        for process in self.running.values():
            child_processes.kill(process)


@dataclass
class Content:
    """The payload and the text of every chunk of a collection, and every document."""

    chunks: dict[str, tuple[bytes, str]]
    documents: dict[str, Any]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    running = Processes(redis)
    try:
        yield running
    finally:
        running.close()
        redis.stop()


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return corpus([page(number) for number in range(PAGES)])


@pytest.fixture(scope="module")
def expected(processes: Processes, documents: list[dict[str, Any]]) -> Content:
    """The content of a collection after an ingest in which nothing was killed."""
    name = f"expected-{uuid.uuid4()}"
    assert_ingested(ingest(processes, name, documents), documents)
    return content(processes, name)


def ingest(processes: Processes, name: str, documents: list[dict[str, Any]]) -> list[Any]:
    """Ingest documents as ``memetwin ingest`` does, which continues after the gateway has died."""
    outgoing = [
        Upload(rag_pb2.IngestHeader(collection=name, id=one["id"]), lambda one=one: bytes_of(one))  # type: ignore[misc]
        for one in documents
    ]
    with processes.channel("gateway") as dialled:
        return list(send(dialled, outgoing, "documents"))


def bytes_of(document: dict[str, Any]) -> bytes:
    content = document["content"]
    return content if isinstance(content, bytes) else content.encode()


def assert_ingested(receipts: list[Any], documents: list[dict[str, Any]]) -> None:
    assert [one.id for one in receipts] == [one["id"] for one in documents]
    failed = [one for one in receipts if one.status == rag_pb2.RECEIPT_STATUS_FAILED]
    assert [(one.id, one.reason) for one in failed] == [(BROKEN, "BROKEN_PDF")]


def count(processes: Processes, name: str) -> int:
    with processes.channel("search") as dialled:
        stub = search_pb2_grpc.SearchServiceStub(dialled)
        request = search_pb2.GetCollectionRequest(name=f"documents-{name}")
        found: int = stub.GetCollection(request, timeout=5).collection.document_count
        return found


def content(processes: Processes, name: str) -> Content:
    chunks: dict[str, tuple[bytes, str]] = {}
    with processes.channel("search") as dialled:
        stub, token = search_pb2_grpc.SearchServiceStub(dialled), ""
        while True:
            request = search_pb2.ListDocumentsRequest(
                collection=f"documents-{name}", page_size=1000, page_token=token
            )
            reply = stub.ListDocuments(request, timeout=60, wait_for_ready=True)
            chunks |= {one.id: (one.payload, one.text) for one in reply.documents}
            token = reply.next_page_token
            if not token:
                break
    with processes.channel("gateway") as dialled:
        rag = rag_pb2_grpc.RagServiceStub(dialled)
        ids = ["animals.pdf", *(f"notes/{number}.md" for number in range(NOTES))]
        return Content(chunks, {key: read(rag, name, key) for key in ids})


@pytest.mark.parametrize("victim", [*SERVICES, "redis"])
def test_a_kill_loses_and_duplicates_nothing(
    processes: Processes, documents: list[dict[str, Any]], expected: Content, victim: str
) -> None:
    name = f"killed-{uuid.uuid4()}"
    outdated = [page(number + 7) for number in range(PAGES // 3)]
    earlier = [{"id": "animals.pdf", "content": pdf(outdated)}]
    earlier += [note(number) | {"content": f"Was {number}."} for number in range(5)]
    assert len(ingest(processes, name, earlier)) == 6
    chunks_before = count(processes, name)

    receipts: list[Any] = []
    ingesting = threading.Thread(target=lambda: receipts.extend(ingest(processes, name, documents)))
    ingesting.start()
    wait_until(lambda: count(processes, name) > chunks_before + PAGES)
    processes.kill(victim)
    assert not receipts, "the ingest ended before the kill"
    ingesting.join(120)
    assert_ingested(receipts, documents)

    before = processes.embedded()
    again = ingest(processes, name, documents)
    assert_ingested(again, documents)
    unchanged = rag_pb2.RECEIPT_STATUS_UNCHANGED
    assert {one.status for one in again if one.id != BROKEN} == {unchanged}
    assert processes.embedded() == before
    assert content(processes, name) == expected
