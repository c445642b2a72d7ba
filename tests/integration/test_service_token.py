"""A stack whose embedder and search accept only the gateway."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from memetwin.embedder.v1 import embedder_pb2
from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from memetwin.search.v1 import search_pb2
from tests.refusals import refused
from tests.stack import Stack, wait_until_ready

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture(scope="module")
def closed(redis_url: str, prefix: str) -> Iterator[Stack]:
    stack = Stack(redis_url, f"{prefix}token:", service_token="only the gateway")
    wait_until_ready(stack)
    yield stack
    stack.close()


def test_every_rpc_of_both_services_needs_the_token(closed: Stack) -> None:
    services = {
        closed.search: search_pb2.DESCRIPTOR.services_by_name["SearchService"],
        closed.embedder: embedder_pb2.DESCRIPTOR.services_by_name["EmbedderService"],
    }
    for channel, service in services.items():
        # Calls as a tool without stubs makes them, with and without somebody's API key.
        for method in [*(one.name for one in service.methods), "NoSuchMethod"]:
            call: Any = channel.unary_unary(f"/{service.full_name}/{method}")
            for metadata in ((), (("authorization", "Bearer an API key"),)):
                with refused(UNAUTHENTICATED, "UNKNOWN_SERVICE_TOKEN"):
                    call(b"", timeout=30, metadata=metadata)


def test_the_gateway_works(closed: Stack) -> None:
    cache: Any = cache_pb2_grpc.CacheServiceStub(closed.gateway)
    cache.CreateEntry(cache_pb2.CreateEntryRequest(prompt="Who wrote it?", response="acme."))
    lookup = cache_pb2.LookupEntryRequest(prompt="Who has written it?", min_similarity=0.1)
    assert cache.LookupEntry(lookup).decision.kind == cache_pb2.DECISION_KIND_SEMANTIC
    call: Any = closed.gateway.unary_unary("/memetwin.search.v1.SearchService/ListCollections")
    assert call(b"", timeout=30) == b""


def test_a_gateway_with_another_token_says_so(redis_url: str, prefix: str) -> None:
    stack = Stack(
        redis_url, f"{prefix}tokens:", embedder={"service_token": "another"}, service_token="one"
    )
    try:
        cache: Any = cache_pb2_grpc.CacheServiceStub(stack.gateway)
        create = cache_pb2.CreateEntryRequest(prompt="Who wrote it?", response="acme.")
        with refused(grpc.StatusCode.UNAVAILABLE, "SERVICE_TOKEN_REFUSED"):
            cache.CreateEntry(create, timeout=30)
    finally:
        stack.close()
