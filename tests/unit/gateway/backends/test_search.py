from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.search.v1 import search_pb2
from services.errors import FailedPrecondition, NotFound
from services.gateway.backends.search import SearchClient
from services.gateway.backends.types import CollectionSpec, Document, Query
from tests.fakes.grpc import FakeChannel, rpc_error

ROW = np.array([0.5, 1, 2], "<f4")
MISSING = rpc_error(grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND")
EXISTS = rpc_error(grpc.StatusCode.ALREADY_EXISTS, "COLLECTION_EXISTS")
SPEC = CollectionSpec("c", 3, "digest", {"year": "number"}, metric="l2", index_text=True)


class Server:
    """Replies by method, in order; an exception is raised. Records the methods."""

    def __init__(self, **replies: list[Any]) -> None:
        self.replies = replies
        self.methods: list[str] = []

    def __call__(self, method: str, request: Any) -> Any:
        self.methods.append(method)
        reply = self.replies[method].pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def client(server: Server) -> tuple[SearchClient, Any]:
    channel: Any = FakeChannel(server)
    return SearchClient(channel), channel


async def test_a_collection_is_created_unless_it_exists() -> None:
    created = search_pb2.CreateCollectionResponse()
    search, channel = client(Server(CreateCollection=[created, EXISTS]))
    await search.ensure(SPEC)
    await search.ensure(SPEC)
    collection = channel.requests[0].collection
    assert (collection.name, collection.dimensions, collection.model_digest) == ("c", 3, "digest")
    assert (collection.metric, collection.index_text) == (search_pb2.METRIC_L2, True)
    assert [(one.name, one.type) for one in collection.fields] == [
        ("year", search_pb2.FIELD_TYPE_NUMBER)
    ]


async def test_documents_carry_their_vectors_fields_and_texts() -> None:
    search, channel = client(Server(UpsertDocuments=[search_pb2.UpsertDocumentsResponse()]))
    fields: dict[str, Any] = {"year": 2.0, "tags": ["a", "b"]}
    await search.upsert("c", [Document("a", ROW, fields, "text", b"payload", ttl=5)], "digest")
    [document] = channel.requests[0].documents
    assert channel.requests[0].model_digest == "digest"
    assert np.array_equal(np.frombuffer(document.vector, "<f4"), ROW)
    assert (document.fields["year"].number, list(document.fields["tags"].strings.values)) == (
        2.0,
        ["a", "b"],
    )
    assert (document.text, document.payload, document.ttl) == ("text", b"payload", 5)


async def test_a_missing_collection_is_created_before_the_documents() -> None:
    written = search_pb2.UpsertDocumentsResponse()
    server = Server(
        UpsertDocuments=[written, MISSING, written],
        CreateCollection=[search_pb2.CreateCollectionResponse()],
    )
    search, channel = client(server)
    await search.upsert_or_create(SPEC, [Document("a", ROW)])
    assert server.methods == ["UpsertDocuments"]
    await search.upsert_or_create(SPEC, [Document("a", ROW)])
    assert server.methods[1:] == ["UpsertDocuments", "CreateCollection", "UpsertDocuments"]
    assert channel.requests[-1].collection == "c"


async def test_what_does_not_exist_is_deleted_already() -> None:
    server = Server(DeleteDocuments=[search_pb2.DeleteDocumentsResponse(), MISSING])
    search, channel = client(server)
    await search.delete("c", [])
    assert server.methods == []
    await search.delete("c", ["a", "b"])
    await search.delete("c", ["a"])
    assert list(channel.requests[0].ids.values) == ["a", "b"]


async def test_vectors_and_missing_documents() -> None:
    document = search_pb2.Document(id="a", vector=ROW.tobytes())
    found = search_pb2.GetDocumentsResponse(documents=[document], missing=["b"])
    search, _ = client(Server(GetDocuments=[found, MISSING, found, MISSING]))
    vectors = await search.vectors("c", ["a", "b"])
    assert list(vectors) == ["a"]
    assert np.array_equal(vectors["a"], ROW)
    assert await search.vectors("c", ["a"]) == {}
    assert await search.vectors("c", []) == {}
    assert await search.missing("c", ["a", "b"]) == ["b"]
    assert await search.missing("c", ["a", "b"]) == ["a", "b"]


async def test_the_model_and_the_name_of_a_collection() -> None:
    found = search_pb2.GetCollectionResponse(collection=search_pb2.Collection(model_digest="d"))
    assigned = search_pb2.AssignAliasResponse()
    search, channel = client(Server(GetCollection=[found, MISSING], AssignAlias=[assigned]))
    assert await search.model_digest("c") == "d"
    assert await search.model_digest("c") == ""
    await search.assign_alias("alias", "copy")
    assert (channel.requests[2].alias, channel.requests[2].collection) == ("alias", "copy")


async def test_fields_are_declared_unless_they_conflict() -> None:
    fields = [
        search_pb2.Field(name="year", type=search_pb2.FIELD_TYPE_NUMBER),
        search_pb2.Field(name="body", type=search_pb2.FIELD_TYPE_TEXT),
    ]
    described = search_pb2.GetCollectionResponse(collection=search_pb2.Collection(fields=fields))
    invalid = rpc_error(grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_FIELDS")
    updated = search_pb2.UpdateCollectionResponse()
    search, channel = client(
        Server(GetCollection=[described, MISSING], UpdateCollection=[updated, invalid])
    )
    assert await search.field_types("c") == {"year": "number", "body": "text"}
    assert await search.field_types("c") is None
    await search.add_fields("c", {"place": "geo"})
    await search.add_fields("c", {"place": "geo"})
    assert channel.requests[-1].add_fields[0].type == search_pb2.FIELD_TYPE_GEO


async def test_a_query_by_vector_and_its_hits() -> None:
    hit = search_pb2.Hit(id="a", similarity=0.9, distance=0.1, score=5, text_score=2)
    reply = search_pb2.SearchResponse(results=[search_pb2.Result(hits=[hit])])
    search, channel = client(Server(Search=[reply]))
    [[found]] = await search.search([Query("c", ROW, 3, tags={"t": "x"}, ef=64)], "digest")
    assert found.score == found.similarity == pytest.approx(0.9)
    assert found.vector is None
    [query] = channel.requests[0].queries
    assert np.array_equal(np.frombuffer(query.vector, "<f4"), ROW)
    assert (query.collection, query.limit, query.ef) == ("c", 3, 64)
    assert (query.return_text, query.return_no_fields, query.return_vector) == (False, True, False)
    [tag] = query.filter.all_of.filters
    assert (tag.tag.field, list(tag.tag.any_of)) == ("t", ["x"])


async def test_a_hybrid_query_and_its_hits() -> None:
    hit = search_pb2.Hit(id="a", similarity=0.9, score=5, vector=ROW.tobytes(), text="t")
    hit.fields["year"].number = 7
    reply = search_pb2.SearchResponse(results=[search_pb2.Result(hits=[hit])])
    search, channel = client(Server(Search=[reply]))
    exists = search_pb2.Filter(exists=search_pb2.ExistsCondition(field="year"))
    options: dict[str, Any] = {"with_text": True, "with_vector": True, "filter": exists}
    [[found]] = await search.search([Query("c", ROW, 3, text="words", depth=9, **options)], "")
    assert (found.score, found.fields, found.text) == (5, {"year": 7.0}, "t")
    assert found.vector is not None
    [query] = channel.requests[0].queries
    assert (query.hybrid.text, query.hybrid.depth, query.return_text) == ("words", 9, True)
    assert list(query.filter.all_of.filters) == [exists]


async def test_errors_are_failures_of_their_reason() -> None:
    differs = rpc_error(grpc.StatusCode.FAILED_PRECONDITION, "MODEL_DIFFERS")
    search, _ = client(Server(Search=[MISSING, differs]))
    with pytest.raises(NotFound):
        await search.search([Query("c", ROW, 1)], "digest")
    with pytest.raises(FailedPrecondition) as caught:
        await search.search([Query("c", ROW, 1)], "digest")
    assert caught.value.reason == "MODEL_DIFFERS"
