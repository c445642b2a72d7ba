"""Documents that attack the parsers fail separately, and the gateway stays small and responsive."""

import contextlib
import os
import resource
import signal
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc
from services.gateway.rag.ingest.types import MAX_DOCUMENT_BYTES
from tests import documents
from tests.documents import ingest, ingest_one
from tests.faults.test_ingest import Processes
from tests.hostile_documents import (
    entity_bomb_in_epub,
    entity_bomb_in_word,
    entity_bomb_in_workbook,
    file_entity_in_workbook,
    large_paragraph,
    long_json_paths,
    nested_html,
    nested_rst,
    pdf_of_many_glyphs,
    pdf_of_many_pages,
    slow_html,
    wide_workbook,
    zip_bomb,
)
from tests.redis_server import RedisServer
from tests.stack import wait_until

CREATED, FAILED = rag_pb2.RECEIPT_STATUS_CREATED, rag_pb2.RECEIPT_STATUS_FAILED
MAX_MEMORY = 512 * 2**20
MIB = 2**20
OUT_OF_MEMORY = {"PARSER_FAILED", "PARSER_OUT_OF_MEMORY", "PARSER_CRASHED"}
BAD = {
    "glyphs.pdf": (pdf_of_many_glyphs(2_000_000), {"PARSER_CRASHED", "PARSER_OUT_OF_MEMORY"}),
    "pages.pdf": (pdf_of_many_pages(60_000), {"DOCUMENT_TOO_COMPLEX"}),
    "nested.html": (nested_html(50_000), {"DOCUMENT_TOO_COMPLEX"}),
    "tags.html": (b"<hr>" * 2**21, OUT_OF_MEMORY),
    "headings.md": (b"# A\n" * 300_000, {"DOCUMENT_TOO_COMPLEX"}),
    "paragraphs.txt": (b"a\n\n" * 300_000, {"DOCUMENT_TOO_COMPLEX"}),
    "hidden.html": (b"<p hidden>a</p>" * 10_000, {"EMPTY_DOCUMENT"}),
    "binary.txt": (bytes(range(256)) * 1000, {"UNSUPPORTED_BINARY"}),
    "zeros.docx": (zip_bomb(), {"DOCUMENT_TOO_COMPLEX"}),
    "paragraph.docx": (large_paragraph(), OUT_OF_MEMORY),
    "entities.docx": (entity_bomb_in_word(), {"BROKEN_DOCUMENT"}),
    "entities.xlsx": (entity_bomb_in_workbook(), {"BROKEN_DOCUMENT"}),
    "file.xlsx": (file_entity_in_workbook("/etc/hostname"), {"BROKEN_DOCUMENT"}),
    "entities.epub": (entity_bomb_in_epub(), {"BROKEN_DOCUMENT"}),
    "wide.xlsx": (wide_workbook(), {"PARSER_TIMEOUT"}),
    "paths.json": (long_json_paths(), OUT_OF_MEMORY),
    "nested.rst": (nested_rst(), OUT_OF_MEMORY),
}
SLOW = {
    "initials.txt": b"J. " * 16_000,
    "numbers.txt": b"No. 5 " * 8_000,
    "hidden.txt": "\u200b".encode() * 10**6,
    "word.txt": b"a" * 2**21,
    "slow.html": slow_html(),
}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    running = Processes(redis)
    try:
        with running.channel("gateway") as channel:
            rag = rag_pb2_grpc.RagServiceStub(channel)
            wait_until(lambda: ingest_one(rag, "first", "a.txt", "One.").status == CREATED)
        yield running
    finally:
        running.close()
        redis.stop()


@pytest.fixture
def rag(processes: Processes) -> Iterator[Any]:
    with processes.channel("gateway") as channel:
        yield rag_pb2_grpc.RagServiceStub(channel)


@dataclass
class Watch:
    """Measures the gateway in a thread: its memory with its children, and its pauses."""

    processes: Processes
    memory: list[int] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def __enter__(self) -> "Watch":
        self._gateway = self.processes.running["gateway"].pid
        self.idle = self._memory()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=one) for one in (self._measure, self._ask)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _measure(self) -> None:
        while not self._stop.wait(0.005):
            self.memory.append(self._memory())

    def _ask(self) -> None:
        while not self._stop.wait(0.01):
            start = time.monotonic()
            with urllib.request.urlopen(f"http://{self.processes.http}/healthz", timeout=60):
                self.pauses.append(time.monotonic() - start)

    def _memory(self) -> int:
        return sum(map(resident_memory, (self._gateway, *self.parsers())))

    def parsers(self) -> list[int]:
        """Return the process ids of the gateway's children."""
        tasks = Path(f"/proc/{self._gateway}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]


def resident_memory(pid: int) -> int:
    """Return the bytes of memory that a process has; none if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0
    return pages * resource.getpagesize()


def test_each_bad_document_fails_alone(processes: Processes, rag: Any) -> None:
    bad = [{"id": name, "content": content} for name, (content, _) in BAD.items()]
    good = [{"id": f"{number}.txt", "content": f"Number {number}."} for number in range(4)]
    with Watch(processes) as watch:
        receipts = ingest(rag, f"bad-{uuid.uuid4()}", [*good[:2], *bad, *good[2:]])
    assert [one.status for one in receipts] == [CREATED] * 2 + [FAILED] * len(BAD) + [CREATED] * 2
    for receipt in receipts:
        if receipt.status == FAILED:
            assert receipt.reason in BAD[receipt.id][1], receipt
            assert receipt.message
    assert max(watch.memory) - watch.idle <= MAX_MEMORY


def test_a_good_document_passes_six_bad_ones(processes: Processes, rag: Any) -> None:
    """Each bad one is in a separate stream, and all of them arrive first."""
    bad, _ = BAD["glyphs.pdf"]
    name = f"six-{uuid.uuid4()}"
    with ThreadPoolExecutor(7) as threads, Watch(processes) as watch:
        six = [threads.submit(ingest_one, rag, name, f"{n}.pdf", bad) for n in range(6)]
        wait_until(lambda: bool(watch.parsers()))
        good = ingest_one(rag, name, "good.txt", "The good one.")
        unfinished = sum(not one.done() for one in six)
    assert good.status == CREATED
    assert unfinished > 0
    assert {one.result().status for one in six} == {FAILED}
    assert max(watch.memory) - watch.idle <= MAX_MEMORY


def test_documents_that_were_slow_are_ingested(processes: Processes, rag: Any) -> None:
    slow = [{"id": name, "content": content} for name, content in SLOW.items()]
    with Watch(processes) as watch:
        receipts = ingest(rag, f"slow-{uuid.uuid4()}", slow)
    assert {one.status for one in receipts} == {CREATED}
    assert max(watch.memory) - watch.idle <= MAX_MEMORY


@pytest.mark.long
def test_the_largest_documents_do_not_stop_the_gateway(
    processes: Processes, rag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "PIECE_BYTES", MIB)
    size = MAX_DOCUMENT_BYTES
    largest = {
        "word.txt": b"a" * size,
        "emoji.txt": b"a" * (size - 4) + "🐈".encode(),
        "blank.txt": b" \n" * (size // 2 - 1) + b"x",
        "word.md": b"a" * size,
        "tags.html": b"<hr>" * (size // 4),
        "nested.html": b"<div>" * (size // 5),
        "glyphs.pdf": pdf_of_many_glyphs(20_000_000),
    }
    for key, content in largest.items():
        with Watch(processes) as watch:
            ingest_one(rag, f"large-{uuid.uuid4()}", key, content)
        pauses = sorted(watch.pauses)
        assert max(watch.memory) - watch.idle <= MAX_MEMORY, key
        assert pauses[len(pauses) * 99 // 100] <= 0.05, key
        assert pauses[-1] <= 0.5, key


def kill_parsers(watch: Watch, stop: threading.Event) -> int:
    """Kill every parser process that the gateway starts; return how many."""
    killed: set[int] = set()
    while not stop.wait(0.01):
        for pid in set(watch.parsers()) - killed:
            killed.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return len(killed)


def test_a_killed_parser_fails_its_document_alone(processes: Processes, rag: Any) -> None:
    """Somebody else kills it, such as the system when memory is short."""
    name = f"killed-{uuid.uuid4()}"
    with ThreadPoolExecutor(1) as threads, Watch(processes) as watch:
        stop = threading.Event()
        killing = threads.submit(kill_parsers, watch, stop)
        killed = ingest_one(rag, name, "slow.html", slow_html())
        stop.set()
        assert killing.result(60) >= 2
    assert (killed.status, killed.reason) == (FAILED, "PARSER_CRASHED")
    assert ingest_one(rag, name, "slow.html", slow_html()).status == CREATED


def test_an_upload_ends_when_its_client_disconnects(processes: Processes, rag: Any) -> None:
    name = f"gone-{uuid.uuid4()}"
    large = slow_html(600_000)
    with ThreadPoolExecutor(1) as threads, Watch(processes) as watch:
        before = set(watch.parsers())
        url = f"http://{processes.http}/v1/documents?collection={name}&id=slow.html"
        with httpx.Client(trust_env=False) as client:
            uploading = threads.submit(client.post, url, content=large, timeout=1.0)
            wait_until(lambda: bool(set(watch.parsers()) - before))
            with pytest.raises(httpx.ReadTimeout):
                uploading.result(60)
        wait_until(lambda: set(watch.parsers()) <= before)
    with pytest.raises(grpc.RpcError) as caught:
        documents.read(rag, name, "slow.html")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
