from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.search.v1 import search_pb2
from services.errors import NotFound
from services.gateway.backends.collections import CollectionClient, CollectionInfo, CopiedDocument
from tests.fakes.grpc import FakeChannel, rpc_error

MISSING = rpc_error(grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND")
EXISTS = rpc_error(grpc.StatusCode.ALREADY_EXISTS, "COLLECTION_EXISTS")
COLLECTION = search_pb2.Collection(
    name="real", dimensions=2, model_digest="old", document_count=5, aliases=["alias"]
)


def client(*replies: Any) -> tuple[CollectionClient, Any]:
    left = list(replies)

    def serve(method: str, request: Any) -> Any:
        reply = left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    channel: Any = FakeChannel(serve)
    return CollectionClient(channel), channel


async def test_a_collection_is_described_by_its_own_name() -> None:
    collections, channel = client(search_pb2.GetCollectionResponse(collection=COLLECTION), MISSING)
    assert await collections.describe("alias") == CollectionInfo("real", "old", 5, ("alias",), 2)
    assert channel.requests[0].name == "alias"
    assert await collections.describe("none") is None


async def test_all_collections_are_listed() -> None:
    other = search_pb2.Collection(name="cache-other")
    pages = [
        search_pb2.ListCollectionsResponse(collections=[COLLECTION], next_page_token="real"),
        search_pb2.ListCollectionsResponse(collections=[other]),
    ]
    collections, channel = client(*pages)
    found = await collections.list_all()
    assert found == [
        CollectionInfo("real", "old", 5, ("alias",), 2),
        CollectionInfo("cache-other", "", 0),
    ]
    assert channel.requests[0].include_internal


async def test_a_copy_has_the_settings_of_its_source() -> None:
    source = search_pb2.Collection()
    source.CopyFrom(COLLECTION)
    source.hnsw.m = 24
    collections, channel = client(search_pb2.GetCollectionResponse(collection=source), EXISTS)
    await collections.create_like("alias", "copy", "new", 3)
    created = channel.requests[1].collection
    assert (created.name, created.model_digest, created.dimensions) == ("copy", "new", 3)
    assert (created.hnsw.m, created.document_count, list(created.aliases)) == (24, 0, [])
    collections, _ = client(MISSING)
    with pytest.raises(NotFound):
        await collections.create_like("none", "copy", "new", 3)


async def test_documents_are_copied_with_new_vectors() -> None:
    document = search_pb2.Document(id="a", text="text", payload=b"p", vector=b"12345678")
    document.fields["year"].number = 2000
    page = search_pb2.ListDocumentsResponse(documents=[document], next_page_token="next")
    collections, channel = client(page, search_pb2.UpsertDocumentsResponse())
    documents, token = await collections.page("real", 10, "before")
    assert (token, channel.requests[0].page_token) == ("next", "before")
    assert (documents[0].id, documents[0].text, documents[0].payload) == ("a", "text", b"p")
    await collections.write("copy", documents, np.array([[1, 2]], "<f4"), "new")
    request = channel.requests[1]
    assert (request.collection, request.model_digest) == ("copy", "new")
    [written] = request.documents
    assert np.frombuffer(written.vector, "<f4").tolist() == [1, 2]
    assert (written.text, written.fields["year"].number) == ("text", 2000)


async def test_documents_with_other_content_are_outdated() -> None:
    same, changed = search_pb2.Document(id="a", text="a"), search_pb2.Document(id="b", text="new")
    copied = [CopiedDocument(one.id, one.text, b"", one) for one in (same, changed)]
    copied.append(CopiedDocument("c", "c", b"", search_pb2.Document(id="c", text="c")))
    earlier = search_pb2.Document(id="b", text="old")
    collections, _ = client(search_pb2.GetDocumentsResponse(documents=[same, earlier]))
    assert await collections.outdated("copy", copied) == {"b", "c"}
    assert await collections.outdated("copy", []) == set()


async def test_a_collection_can_be_deleted_twice() -> None:
    collections, channel = client(search_pb2.DeleteCollectionResponse(), MISSING)
    await collections.delete("real")
    await collections.delete("real")
    assert [one.name for one in channel.requests] == ["real", "real"]
