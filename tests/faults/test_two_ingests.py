"""Two replicas take in versions of one document at once; in the end it is one of them, whole."""

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests.documents import ingest_one, read
from tests.stack import Stack, wait_until_ready

ROUNDS = 6


@pytest.fixture(scope="module")
def other(redis_url: str, prefix: str) -> Iterator[Stack]:
    stack = Stack(redis_url, prefix)
    wait_until_ready(stack)
    yield stack
    stack.close()


def version(number: int) -> str:
    """Sections that other versions have too, and some of its own."""
    parts = [
        f"# Part {part}\n\nIt says {part}.\n" for part in range(number % 5, 60, 1 + number % 3)
    ]
    return "\n".join([*parts, f"# Last\n\nThis is version {number}.\n"])


def test_versions_do_not_mix(stack: Stack, other: Stack) -> None:
    name = f"races-{uuid.uuid4()}"
    replicas = [rag_pb2_grpc.RagServiceStub(one.gateway) for one in (stack, other)]
    search = search_pb2_grpc.SearchServiceStub(stack.search)
    for turn in range(ROUNDS):
        receipts: list[Any] = []

        def take(stub: Any, number: int, receipts: list[Any] = receipts) -> None:
            receipts.append(ingest_one(stub, name, "a.md", version(number), title="A"))

        threads = [
            threading.Thread(target=take, args=(stub, 2 * turn + at))
            for at, stub in enumerate(replicas)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert rag_pb2.RECEIPT_STATUS_FAILED not in {one.status for one in receipts}
        kept = read(replicas[0], name, "a.md")
        assert kept.text in (version(2 * turn), version(2 * turn + 1))
        request = search_pb2.ListDocumentsRequest(collection=f"documents-{name}", page_size=1000)
        places = [json.loads(one.payload) for one in search.ListDocuments(request).documents]
        assert {one["version"] for one in places} == {kept.version}
        assert sorted(one["number"] for one in places) == list(range(kept.chunks))
