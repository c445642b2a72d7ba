"""Services are killed while documents are taken in; done again, nothing is lost or doubled."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.cli.documents import Outgoing, send
from tests.conftest import ROOT
from tests.documents import ingest, read
from tests.redis_server import free_port
from tests.stack import channel, wait_until

SERVICES = ("embedder", "search", "gateway")


class Processes:
    """The three services, each its own process, to be killed and started again."""

    def __init__(self, redis_url: str, prefix: str) -> None:
        self.ports = {name: free_port() for name in SERVICES}
        self._settings = {
            "MEMETWIN_HTTP_LISTEN": f"127.0.0.1:{free_port()}",
            "MEMETWIN_REDIS_URL": redis_url,
            "MEMETWIN_REDIS_PREFIX": prefix,
        }
        for name, port in self.ports.items():
            self._settings[f"MEMETWIN_{name.upper()}_LISTEN"] = f"127.0.0.1:{port}"
            self._settings[f"MEMETWIN_{name.upper()}_ADDRESS"] = f"127.0.0.1:{port}"
        self.running = {name: self.start(name) for name in SERVICES}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", f"services.{name}"]
        return subprocess.Popen(words, cwd=ROOT, env=os.environ | self._settings)

    def kill(self, name: str) -> None:
        self.running[name].send_signal(signal.SIGKILL)
        self.running[name].wait()
        self.running[name] = self.start(name)

    def channel(self, name: str) -> grpc.Channel:
        return channel(f"127.0.0.1:{self.ports[name]}")

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def processes(redis_url: str, prefix: str) -> Iterator[Processes]:
    running = Processes(redis_url, f"{prefix}killed:")
    yield running
    running.close()


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    """Forty documents of twenty sections."""
    return [
        {
            "id": f"{number}.md",
            "title": f"Book {number}",
            "content": "\n".join(
                f"# Part {part}\n\nSentence {part} of book {number} says {number * part}.\n"
                for part in range(20)
            ),
        }
        for number in range(40)
    ]


def held(processes: Processes, name: str) -> dict[str, tuple[bytes, str]]:
    """Every chunk that search holds: its place and its text."""
    found: dict[str, tuple[bytes, str]] = {}
    with processes.channel("search") as dialled:
        stub, token = search_pb2_grpc.SearchServiceStub(dialled), ""
        while True:
            request = search_pb2.ListDocumentsRequest(
                collection=f"documents-{name}", page_size=1000, page_token=token
            )
            reply = stub.ListDocuments(request, timeout=60, wait_for_ready=True)
            found |= {one.id: (one.payload, one.text) for one in reply.documents}
            token = reply.next_page_token
            if not token:
                return found


def take(processes: Processes, name: str, documents: list[dict[str, Any]]) -> list[Any]:
    with processes.channel("gateway") as dialled:
        stub = rag_pb2_grpc.RagServiceStub(dialled)
        wait_until(lambda: stub.ListDocuments(rag_pb2.ListDocumentsRequest(collection=name)))
        return ingest(stub, name, documents)


@pytest.mark.parametrize("victim", SERVICES)
def test_a_killed_service_loses_and_doubles_nothing(
    processes: Processes, documents: list[dict[str, Any]], victim: str
) -> None:
    calm, stormy = f"calm-{uuid.uuid4()}", f"stormy-{uuid.uuid4()}"
    outdated = [one | {"content": one["content"][::-1]} for one in documents[:5]]
    for name in (calm, stormy):
        wait_until(lambda name=name: all_taken(take(processes, name, outdated)))
    assert all_taken(take(processes, calm, documents))

    receipts: list[Any] = []

    def shaken() -> None:
        outgoing = [
            Outgoing(
                rag_pb2.IngestHeader(collection=stormy, id=one["id"], title=one["title"]),
                one["content"].encode,
            )
            for one in documents
        ]
        with processes.channel("gateway") as dialled:
            receipts.extend(send(dialled, outgoing, "documents"))

    ingesting = threading.Thread(target=shaken)
    ingesting.start()
    wait_until(lambda: len(held(processes, stormy)) > 150)
    processes.kill(victim)
    ingesting.join(120)
    assert [one.id for one in receipts] == [one["id"] for one in documents]
    assert all_taken(receipts)
    again = take(processes, stormy, documents)
    assert {one.status for one in again} == {rag_pb2.RECEIPT_STATUS_UNCHANGED}
    assert held(processes, stormy) == held(processes, calm)
    with processes.channel("gateway") as dialled:
        stub = rag_pb2_grpc.RagServiceStub(dialled)
        for one in documents:
            assert read(stub, stormy, one["id"]) == read(stub, calm, one["id"])


def all_taken(receipts: list[Any]) -> bool:
    return all(one.status != rag_pb2.RECEIPT_STATUS_FAILED for one in receipts)
