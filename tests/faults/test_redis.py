"""Redis is killed, unreachable or full."""

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests.redis_server import RedisServer
from tests.refusals import refusal
from tests.stack import Stack, wait_until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def server(tmp_path: Any) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def own_stack(server: RedisServer) -> Iterator[Stack]:
    stack = Stack(server.url, "fault:")
    yield stack
    stack.close()


def health(channel: grpc.Channel, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    status: int = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status
    return status


def test_every_acknowledged_document_survives_a_kill(server: RedisServer, own_stack: Stack) -> None:
    stub = search_pb2_grpc.SearchServiceStub(own_stack.search)
    fields = [search_pb2.Field(name="n", type=search_pb2.FIELD_TYPE_NUMBER)]
    collection = search_pb2.Collection(name="c", dimensions=32, fields=fields)
    stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))
    acknowledged: dict[str, search_pb2.Document] = {}
    enough, killed = threading.Event(), threading.Event()

    def write(seed: int) -> None:
        random = np.random.default_rng(seed)
        while not killed.is_set():
            batch = [
                search_pb2.Document(
                    id=str(uuid.uuid4()),
                    vector=random.standard_normal(32).astype("<f4").tobytes(),
                    fields={"n": search_pb2.FieldValue(number=random.random())},
                    text=f"text {seed}",
                )
                for _ in range(5)
            ]
            try:
                request = search_pb2.UpsertDocumentsRequest(collection="c", documents=batch)
                stub.UpsertDocuments(request, timeout=60)
            except grpc.RpcError:
                return
            acknowledged.update({document.id: document for document in batch})
            if len(acknowledged) > 400:
                enough.set()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for writer in writers:
        writer.start()
    assert enough.wait(60)
    server.kill()
    killed.set()
    for writer in writers:
        writer.join()
    server.start()
    wait_until(lambda: health(own_stack.search, "memetwin.search.v1.SearchService") == SERVING)
    ids = list(acknowledged)
    reply = stub.GetDocuments(
        search_pb2.GetDocumentsRequest(collection="c", ids=ids, return_vector=True)
    )
    assert not reply.missing
    assert list(reply.documents) == [acknowledged[key] for key in ids]
    for key in ids[:50]:
        query = search_pb2.Query(vector=acknowledged[key].vector, limit=1)
        found = stub.Search(search_pb2.SearchRequest(collection="c", queries=[query]))
        assert found.results[0].hits[0].id == key


def test_calls_are_unavailable_without_redis_and_succeed_again_after(
    server: RedisServer, own_stack: Stack
) -> None:
    cache = cache_pb2_grpc.CacheServiceStub(own_stack.gateway)
    name = "memetwin.gateway.v1.CacheService"
    create = cache_pb2.CreateEntryRequest(prompt="a question", response="an answer")
    wait_until(lambda: health(own_stack.gateway, name) == SERVING)
    cache.CreateEntry(create)
    server.kill()
    unavailable = (grpc.StatusCode.UNAVAILABLE, "REDIS_UNAVAILABLE")
    lookup = cache_pb2.LookupEntryRequest(prompt="a question")
    code, reason, hint = refusal(cache.LookupEntry, lookup)
    assert (code, reason) == unavailable
    assert hint is not None
    ask = search_pb2.GetCollectionRequest(name="c")
    search = search_pb2_grpc.SearchServiceStub(own_stack.search)
    assert refusal(search.GetCollection, ask)[:2] == unavailable
    wait_until(lambda: health(own_stack.gateway, name) == NOT_SERVING)
    wait_until(lambda: health(own_stack.search, "memetwin.search.v1.SearchService") == NOT_SERVING)
    assert health(own_stack.gateway, "liveness") == SERVING
    assert health(own_stack.embedder, "") == SERVING
    server.start()
    wait_until(lambda: health(own_stack.gateway, name) == SERVING)
    found = cache.LookupEntry(lookup).decision
    assert found.kind == cache_pb2.DECISION_KIND_EXACT


def test_a_full_redis_refuses_writes_and_stores_nothing(
    server: RedisServer, own_stack: Stack
) -> None:
    stub = search_pb2_grpc.SearchServiceStub(own_stack.search)
    collection = search_pb2.Collection(name="c", dimensions=4)
    stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))
    document = search_pb2.Document(id="kept", vector=np.ones(4, "<f4").tobytes(), text="first")
    write = search_pb2.UpsertDocumentsRequest
    stub.UpsertDocuments(write(collection="c", documents=[document]))
    with server.client() as client:
        client.config_set("maxmemory", "1mb")
    full = (grpc.StatusCode.RESOURCE_EXHAUSTED, "REDIS_OUT_OF_MEMORY")
    document.text = "second"
    assert refusal(stub.UpsertDocuments, write(collection="c", documents=[document]))[:2] == full
    cache = cache_pb2_grpc.CacheServiceStub(own_stack.gateway)
    create = cache_pb2.CreateEntryRequest(prompt="a question", response="an answer")
    assert refusal(cache.CreateEntry, create)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    with server.client() as client:
        client.config_set("maxmemory", "0")
    reply = stub.GetDocuments(search_pb2.GetDocumentsRequest(collection="c", ids=["kept"]))
    assert reply.documents[0].text == "first"
