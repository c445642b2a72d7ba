"""The cache within a memory bound, on a real Redis."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests.stack import Stack, wait_until, wait_until_ready

BOUND = 150_000
SCOPE = cache_pb2.Scope(tenant="eviction")


@pytest.fixture(scope="module")
def small(redis_url: str, prefix: str) -> Iterator[tuple[Stack, str]]:
    """A stack with a prefix of its own whose cache has little room."""
    own = f"{prefix}evict:"
    stack = Stack(redis_url, own, cache_memory=BOUND)
    wait_until_ready(stack)
    yield stack, own
    stack.close()


@pytest.fixture(scope="module")
def store(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def keep(stack: Stack, prompt: str, tokens: int = 100, **fields: Any) -> str:
    request = cache_pb2.CreateEntryRequest(
        scope=SCOPE,
        prompt=prompt,
        response="It depends.",
        usage=cache_pb2.Usage(completion_tokens=tokens),
        **fields,
    )
    return str(cache_pb2_grpc.CacheServiceStub(stack.gateway).CreateEntry(request).entry.id)


def kept(stack: Stack) -> set[str]:
    stub = cache_pb2_grpc.CacheServiceStub(stack.gateway)
    page = stub.ListEntries(cache_pb2.ListEntriesRequest(scope=SCOPE, page_size=1000))
    return {entry.id for entry in page.entries}


def found(stack: Stack, keys: list[str]) -> set[str]:
    """Return which entries search has."""
    stub = search_pb2_grpc.SearchServiceStub(stack.search)
    names = [
        one.name for one in stub.ListCollections(search_pb2.ListCollectionsRequest()).collections
    ]
    [name] = [name for name in names if name.startswith("cache-")]
    request = search_pb2.GetDocumentsRequest(collection=name, ids=keys)
    return {document.id for document in stub.GetDocuments(request).documents}


def hits(stack: Stack, prompt: str) -> bool:
    stub = cache_pb2_grpc.CacheServiceStub(stack.gateway)
    look = cache_pb2.LookupEntryRequest(scope=SCOPE, prompt=prompt)
    return bool(stub.LookupEntry(look).decision.kind == cache_pb2.DECISION_KIND_EXACT)


def settled(store: Any, prefix: str) -> bool:
    taken = int(store.get(f"{prefix}gateway:bytes") or 0)
    return 0 < taken <= BOUND and not store.exists(f"{prefix}gateway:leaving")


def test_what_is_worth_least_leaves_ledger_and_search_(small: Any, store: Any) -> None:
    stack, prefix = small
    words = [f"What is {uuid.uuid4()}?" for _ in range(60)]
    costly = keep(stack, words[0], tokens=100_000)
    used = keep(stack, words[1])
    for _ in range(30):
        assert hits(stack, words[1])
    wait_until(lambda: store.hget(f"{prefix}gateway:weights", used).split()[2] == b"31", 10)
    others = [keep(stack, word) for word in words[2:]]
    wait_until(lambda: settled(store, prefix), 20)
    left = kept(stack)
    assert {costly, used} <= left
    assert others[-1] in left  # the newest has grown with the floor
    assert others[0] not in left
    assert 5 < len(left) < 40
    assert found(stack, [costly, used, *others]) == left
    assert not hits(stack, words[2])
    assert store.zcard(f"{prefix}gateway:worth") == len(left)


def test_an_eviction_that_was_cut_short_is_ended_by_the_next(small: Any, store: Any) -> None:
    stack, prefix = small
    lost = keep(stack, "What was lost?")
    *_, partition, digest = store.hget(f"{prefix}gateway:weights", lost).split()
    store.delete(f"{prefix}gateway:entry:{lost}")
    store.hset(f"{prefix}gateway:leaving", lost, digest + b" " + partition)
    assert found(stack, [lost]) == {lost}
    for _ in range(40):
        keep(stack, f"What is {uuid.uuid4()}?")
    wait_until(lambda: settled(store, prefix), 20)
    assert found(stack, [lost]) == set()


def test_what_expired_takes_no_room(small: Any, store: Any) -> None:
    stack, prefix = small
    short = [keep(stack, f"What is {uuid.uuid4()}?", ttl=0.2) for _ in range(3)]
    ends = f"{prefix}gateway:ends"
    wait_until(lambda: not kept(stack) & set(short), 10)
    for _ in range(40):
        keep(stack, f"What is {uuid.uuid4()}?")
    wait_until(lambda: all(store.zscore(ends, key) is None for key in short), 20)
    weights = f"{prefix}gateway:weights"
    sizes = [int(value.split()[0]) for value in store.hvals(weights)]
    assert sum(sizes) == int(store.get(f"{prefix}gateway:bytes"))
    assert not any(store.hexists(weights, key) for key in short)
