import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from services.errors import Failure
from services.gateway.backends.types import Vectors
from services.gateway.http.errors import handle_failure
from services.gateway.rag.ingest.routes import DocumentRoutes
from services.gateway.rag.ingest.service import IngestService
from services.gateway.rag.ingest.types import MAX_DOCUMENT_BYTES
from tests.fakes.backends import fake_backends
from tests.fakes.documents import FakeDocumentStore
from tests.fakes.parsers import FakeParserPool
from tests.fakes.tenants import C, fake_tenants


class World:
    """The routes on fakes."""

    def __init__(self) -> None:
        both, self.embedder, _ = fake_backends()
        self.store = FakeDocumentStore()
        ingest = IngestService(self.store, both, FakeParserPool(), fake_tenants())
        self.application = Starlette(
            routes=DocumentRoutes(ingest).routes(), exception_handlers={Failure: handle_failure}
        )

    async def post(self, **request: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/v1/documents", **request)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_body_is_a_document(world: World) -> None:
    reply = await world.post(params={"collection": "c", "id": "a.md"}, content=b"# Doors")
    [receipt] = reply.json()["receipts"]
    assert (receipt["id"], receipt["status"]) == ("a.md", "RECEIPT_STATUS_CREATED")
    record = await world.store.get(C, "a.md")
    assert record is not None
    assert record["media_type"] == "text/markdown"


async def test_each_file_of_a_form_is_a_document(world: World) -> None:
    files = [("file", (name, name.encode(), "text/plain")) for name in ("a.txt", "b.txt")]
    reply = await world.post(data={"collection": "c"}, files=files)
    assert [one["id"] for one in reply.json()["receipts"]] == ["a.txt", "b.txt"]


async def test_a_request_in_which_every_document_fails_is_an_error(world: World) -> None:
    files = [("file", (name, b"x", "text/plain")) for name in ("a.txt", "b.txt")]
    reply = await world.post(data={"collection": "no name"}, files=files)
    assert reply.status_code == 400
    assert reply.json()["error"]["reason"] == "BAD_COLLECTION_NAME"
    assert [one["status"] for one in reply.json()["receipts"]] == ["RECEIPT_STATUS_FAILED"] * 2
    large = await world.post(
        params={"collection": "c", "id": "a"}, content=bytes(MAX_DOCUMENT_BYTES + 1)
    )
    assert large.status_code == 413


async def test_the_ingest_stops_when_the_client_disconnects(world: World) -> None:
    embedding, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(texts: Sequence[str], *, bulk: bool = False) -> Vectors:
        embedding.set()
        try:
            never: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
            return await never
        finally:
            cancelled.set()

    world.embedder.embed_documents = hang  # type: ignore[method-assign]
    messages = [{"type": "http.request", "body": b"One.", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await embedding.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/documents",
        "query_string": b"collection=c&id=a.txt",
        "headers": [],
    }
    await asyncio.wait_for(world.application(scope, receive, send), 30)
    await asyncio.wait_for(cancelled.wait(), 30)
    assert await world.store.get(C, "a.txt") is None
    assert world.store.fences  # the lease shows that the next ingest must begin again
