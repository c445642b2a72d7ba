"""Two replicas ingest versions of one document at the same time, or one dies midway.

One version wins.
"""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.gateway import redis_store
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.types import DocumentCollection
from tests.documents import ingest_one, read
from tests.stack import Stack, wait_until_ready

ROUNDS = 6


@pytest.fixture(scope="module")
def other(redis_url: str, prefix: str) -> Iterator[Stack]:
    with closing(Stack(redis_url, prefix)) as stack:
        wait_until_ready(stack)
        yield stack


def version(number: int) -> str:
    """Return a version with some sections that others share and some that only it has."""
    parts = [
        f"# Part {part}\n\nIt says {part}.\n" for part in range(number % 5, 60, 1 + number % 3)
    ]
    return "\n".join([*parts, f"# Last\n\nThis is version {number}.\n"])


def test_versions_do_not_mix(stack: Stack, other: Stack) -> None:
    name = f"races-{uuid.uuid4()}"
    replicas = [rag_pb2_grpc.RagServiceStub(one.gateway) for one in (stack, other)]
    for number in range(0, 2 * ROUNDS, 2):
        receipts: list[Any] = []

        def ingest(stub: Any, number: int, receipts: list[Any] = receipts) -> None:
            receipts.append(ingest_one(stub, name, "a.md", version(number), title="A"))

        threads = [
            threading.Thread(target=ingest, args=(stub, number + at))
            for at, stub in enumerate(replicas)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert rag_pb2.RECEIPT_STATUS_FAILED not in {one.status for one in receipts}
        assert_whole(stack, name, version(number), version(number + 1))


async def test_a_document_whose_writer_died_is_ingested_again(
    stack: Stack, redis_url: str, prefix: str
) -> None:
    name = f"died-{uuid.uuid4()}"
    rag = rag_pb2_grpc.RagServiceStub(stack.gateway)
    search = search_pb2_grpc.SearchServiceStub(stack.search)
    ingest_one(rag, name, "a.md", version(0), title="A")
    redis = redis_store.connect(redis_url)
    store = DocumentStore(redis, prefix)
    lease = await store.acquire(
        DocumentCollection(name), "a.md", ["a.md#new"]
    )  # and then the writer dies
    await redis.aclose()
    gone = search_pb2.Ids(values=sorted(lease.earlier_chunks)[:5])
    search.DeleteDocuments(
        search_pb2.DeleteDocumentsRequest(collection=f"documents-{name}", ids=gone)
    )
    receipt = ingest_one(rag, name, "a.md", version(0), title="A")
    assert (receipt.status, receipt.embedded) == (rag_pb2.RECEIPT_STATUS_UPDATED, 5)
    assert_whole(stack, name, version(0))
    again = ingest_one(rag, name, "a.md", version(0), title="A")
    assert again.status == rag_pb2.RECEIPT_STATUS_UNCHANGED


def assert_whole(stack: Stack, name: str, *texts: str) -> None:
    """Assert that the document is one of these texts, and that search holds only its chunks."""
    stored = read(rag_pb2_grpc.RagServiceStub(stack.gateway), name, "a.md")
    assert stored.text in texts
    search = search_pb2_grpc.SearchServiceStub(stack.search)
    request = search_pb2.ListDocumentsRequest(collection=f"documents-{name}", page_size=1000)
    places = [json.loads(one.payload) for one in search.ListDocuments(request).documents]
    assert {one["version"] for one in places} == {stored.version}
    assert sorted(one["number"] for one in places) == list(range(stored.chunks))
