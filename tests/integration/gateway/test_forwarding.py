"""SearchService and EmbedderService through the gateway, for two tenants of a real stack."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.cli.__main__ import main
from tests.refusals import refusal
from tests.stack import Stack, wait_until_ready

RIGHTS = {
    "one": None,
    "two": None,
    "reader": ["search:read"],
    "notes-only": ["search"],
}
TENANTS = {"one": "acme", "two": "umbrella", "reader": "acme", "notes-only": "acme"}
DENIED, NOT_FOUND = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
Collection = search_pb2.Collection
VECTOR = np.array([1, 0], "<f4").tobytes()


@pytest.fixture(scope="module")
def guarded(redis_url: str, prefix: str, tmp_path_factory: Any) -> Iterator[Stack]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    rows: list[dict[str, Any]] = []
    for key, tenant in TENANTS.items():
        row: dict[str, Any] = {"sha256": hashlib.sha256(key.encode()).hexdigest(), "tenant": tenant}
        rows.append(row | ({"rights": RIGHTS[key]} if RIGHTS[key] else {}))
    rows[-1]["collections"] = ["notes"]
    file.write_text(json.dumps(rows))
    stack = Stack(redis_url, f"{prefix}{uuid.uuid4()}:", api_keys_file=str(file))
    wait_until_ready(stack)
    yield stack
    stack.close()


class Caller:
    """Calls a service of the gateway with a key."""

    def __init__(self, stub: Any, key: str) -> None:
        self._stub, self._metadata = stub, (("authorization", f"Bearer {key}"),)

    def __getattr__(self, name: str) -> Any:
        def call(request: Any, timeout: float = 30) -> Any:
            return getattr(self._stub, name)(request, timeout=timeout, metadata=self._metadata)

        return call


def search(stack: Stack, key: str) -> Caller:
    return Caller(search_pb2_grpc.SearchServiceStub(stack.gateway), key)


def create(caller: Caller, name: str, *ids: str) -> None:
    collection = Collection(name=name, dimensions=2, metric=search_pb2.METRIC_COSINE)
    caller.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))
    documents = [search_pb2.Document(id=one, vector=VECTOR, text=one) for one in ids]
    if documents:
        caller.UpsertDocuments(
            search_pb2.UpsertDocumentsRequest(collection=name, documents=documents)
        )


def names(caller: Caller, **fields: Any) -> list[str]:
    reply = caller.ListCollections(search_pb2.ListCollectionsRequest(**fields))
    return [one.name for one in reply.collections]


def found(caller: Caller, name: str) -> list[str]:
    query = search_pb2.Query(vector=VECTOR, limit=10)
    request = search_pb2.SearchRequest(collection=name, queries=[query])
    return [hit.id for hit in caller.Search(request).results[0].hits]


def test_tenants_have_collections_of_the_same_names(guarded: Stack) -> None:
    one, two = search(guarded, "one"), search(guarded, "two")
    create(one, "same", "of acme")
    create(two, "same", "of umbrella")
    create(one, "more")
    assert (found(one, "same"), found(two, "same")) == (["of acme"], ["of umbrella"])
    assert (names(one), names(two)) == (["more", "same"], ["same"])
    page = one.ListCollections(search_pb2.ListCollectionsRequest(page_size=1))
    assert [collection.name for collection in page.collections] == ["more"]
    assert names(one, page_size=1, page_token=page.next_page_token) == ["same"]
    foreign = search_pb2.ListCollectionsRequest(page_token=page.next_page_token)
    assert refusal(two.ListCollections, foreign)[:2] == (INVALID, "INVALID_PAGE_TOKEN")
    assert names(two, include_internal=True, name_prefix="tenant-") == ["same"]
    alias = search_pb2.AssignAliasRequest(alias="latest", collection="same")
    assert one.AssignAlias(alias).previous == ""
    get = search_pb2.GetCollectionRequest(name="latest")
    described = one.GetCollection(get).collection
    assert (described.name, list(described.aliases)) == ("same", ["latest"])
    absent = refusal(two.GetCollection, get)
    assert absent[:2] == (NOT_FOUND, "COLLECTION_NOT_FOUND")
    one.DeleteCollection(search_pb2.DeleteCollectionRequest(name="more"))
    assert names(one) == ["same"]
    [inside] = [
        name
        for name in names(
            Caller(search_pb2_grpc.SearchServiceStub(guarded.search), ""), include_internal=True
        )
        if name.endswith("-same") and found_in(guarded, name) == ["of acme"]
    ]
    for name in (inside, "documents-x", "cache-x"):
        taken = refusal(two.GetCollection, search_pb2.GetCollectionRequest(name=name))
        assert taken[:2] == (INVALID, "RESERVED_NAME")


def found_in(stack: Stack, name: str) -> list[str]:
    return found(Caller(search_pb2_grpc.SearchServiceStub(stack.search), ""), name)


def test_errors_name_what_the_caller_named(guarded: Stack) -> None:
    one = search(guarded, "one")
    create(one, "errors")
    query = search_pb2.Query(vector=np.ones(3, "<f4").tobytes(), limit=1)
    request = search_pb2.SearchRequest(collection="errors", queries=[query])
    with pytest.raises(grpc.RpcError) as caught:
        one.Search(request)
    error: Any = caught.value
    assert "collection errors expects 2" in error.details()
    assert "tenant-" not in str(error.trailing_metadata())


def test_streams_go_both_ways(guarded: Stack) -> None:
    one, two = search(guarded, "one"), search(guarded, "two")
    create(one, "streamed")
    documents = [search_pb2.Document(id=f"{number:03}", vector=VECTOR) for number in range(300)]
    upserts = (
        search_pb2.UpsertStreamRequest(collection="streamed", documents=documents[first:][:50])
        for first in range(0, 300, 50)
    )
    receipts = [one for reply in one.UpsertStream(upserts) for one in reply.receipts]
    assert len(receipts) == 300
    parts = list(one.ExportCollection(search_pb2.ExportCollectionRequest(collection="streamed")))
    assert parts[0].collection.name == "streamed"
    pieces = [search_pb2.ImportCollectionRequest(collection=parts[0].collection)]
    pieces += [search_pb2.ImportCollectionRequest(documents=part.documents) for part in parts[1:]]
    assert two.ImportCollection(iter(pieces)).created == 300
    get = search_pb2.GetCollectionRequest(name="streamed")
    assert two.GetCollection(get).collection.document_count == 300
    reindex = search_pb2.ReindexRequest(collection="streamed", metric=search_pb2.METRIC_IP)
    assert list(two.Reindex(reindex))[-1].collection.name == "streamed"


def test_rights_and_collections_of_a_key(guarded: Stack) -> None:
    one, reader, limited = (search(guarded, key) for key in ("one", "reader", "notes-only"))
    create(one, "notes", "a")
    assert found(reader, "notes") == ["a"]
    drop = search_pb2.DeleteCollectionRequest(name="notes")
    assert refusal(reader.DeleteCollection, drop)[:2] == (DENIED, "RIGHT_MISSING")
    assert names(limited) == ["notes"]
    other = search_pb2.GetCollectionRequest(name="same")
    assert refusal(limited.GetCollection, other)[:2] == (DENIED, "COLLECTION_NOT_ALLOWED")
    unknown = search(guarded, "nobody")
    unauthenticated = (grpc.StatusCode.UNAUTHENTICATED, "UNKNOWN_API_KEY")
    assert refusal(unknown.GetCollection, other)[:2] == unauthenticated


def test_models_are_served(guarded: Stack) -> None:
    embedder = Caller(embedder_pb2_grpc.EmbedderServiceStub(guarded.gateway), "one")
    request = embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(text="Hello")])
    through = embedder.Embed(request)
    direct = embedder_pb2_grpc.EmbedderServiceStub(guarded.embedder).Embed(request)
    assert (through.vectors, through.model_digest) == (direct.vectors, direct.model_digest)
    stream = (embedder_pb2.EmbedStreamRequest(request=request) for _ in range(20))
    assert len(list(embedder.EmbedStream(stream))) == 20
    assert refusal(embedder.Embed, embedder_pb2.EmbedRequest())[0] == INVALID
    reader = Caller(embedder_pb2_grpc.EmbedderServiceStub(guarded.gateway), "reader")
    assert refusal(reader.Embed, request)[:2] == (DENIED, "RIGHT_MISSING")


def test_the_caches_collections_are_out_of_reach(guarded: Stack) -> None:
    cache = Caller(cache_pb2_grpc.CacheServiceStub(guarded.gateway), "one")
    cache.CreateEntry(cache_pb2.CreateEntryRequest(prompt="Who?", response="acme."))
    for key in ("one", "two"):
        assert not [name for name in names(search(guarded, key)) if name.startswith("cache-")]


def test_commands_dial_the_gateway(guarded: Stack, tmp_path: Path) -> None:
    create(search(guarded, "one"), "exported", "a", "b")
    file = tmp_path / "exported"

    def run(key: str, *words: str) -> str:
        environ = {"MEMETWIN_API_KEY": key, "MEMETWIN_GATEWAY_ADDRESS": guarded.gateway_address}
        return CliRunner().invoke(main, words, env=environ).output

    assert "There is no collection named 'exported'" in run("two", "export", "exported", str(file))
    assert "2 documents of exported" in run("one", "export", "exported", str(file))
    assert "2 documents created" in run("two", "import", str(file))
    assert sorted(found(search(guarded, "two"), "exported")) == ["a", "b"]
