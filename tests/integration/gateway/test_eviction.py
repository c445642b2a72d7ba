"""The cache stays within its memory limit, on a real Redis."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests.stack import Stack, wait_until, wait_until_ready

LIMIT = 150_000
SCOPE = cache_pb2.Scope(tenant="eviction")


@pytest.fixture(scope="module")
def small(redis_url: str, prefix: str) -> Iterator[tuple[Stack, str]]:
    """A stack with its own prefix and little memory for its cache."""
    own = f"{prefix}evict:"
    stack = Stack(redis_url, own, cache_memory=LIMIT)
    wait_until_ready(stack)
    yield stack, own
    stack.close()


@pytest.fixture(scope="module")
def store(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def create(stack: Stack, prompt: str, tokens: int = 100, **fields: Any) -> str:
    request = cache_pb2.CreateEntryRequest(
        scope=SCOPE,
        prompt=prompt,
        response="It depends.",
        usage=cache_pb2.Usage(completion_tokens=tokens),
        **fields,
    )
    return str(cache_pb2_grpc.CacheServiceStub(stack.gateway).CreateEntry(request).entry.id)


def listed(stack: Stack) -> set[str]:
    stub = cache_pb2_grpc.CacheServiceStub(stack.gateway)
    page = stub.ListEntries(cache_pb2.ListEntriesRequest(scope=SCOPE, page_size=1000))
    return {entry.id for entry in page.entries}


def found(stack: Stack, keys: list[str]) -> set[str]:
    """Return which of these entries search holds."""
    stub = search_pb2_grpc.SearchServiceStub(stack.search)
    names = [
        one.name
        for one in stub.ListCollections(
            search_pb2.ListCollectionsRequest(include_internal=True)
        ).collections
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
    return 0 < taken <= LIMIT and not store.exists(f"{prefix}gateway:leaving")


def test_evicted_entries_leave_redis_and_search(small: Any, store: Any) -> None:
    stack, prefix = small
    prompts = [f"What is {uuid.uuid4()}?" for _ in range(60)]
    costly = create(stack, prompts[0], tokens=100_000)
    used = create(stack, prompts[1])
    for _ in range(30):
        assert hits(stack, prompts[1])
    wait_until(lambda: store.hget(f"{prefix}gateway:weights", used).split()[2] == b"31", 10)
    others = [create(stack, prompt) for prompt in prompts[2:]]
    wait_until(lambda: settled(store, prefix), 20)
    remaining = listed(stack)
    assert {costly, used} <= remaining
    assert others[-1] in remaining  # the inflation value favours the newest
    assert others[0] not in remaining
    assert 5 < len(remaining) < 40
    assert found(stack, [costly, used, *others]) == remaining
    assert not hits(stack, prompts[2])
    [worth] = store.keys(f"{prefix}gateway:worth:*")
    assert store.zcard(worth) == len(remaining)


def test_the_next_eviction_finishes_an_interrupted_one(small: Any, store: Any) -> None:
    stack, prefix = small
    lost = create(stack, "What was lost?")
    *_, owner, digest = store.hget(f"{prefix}gateway:weights", lost).split()
    partition, _, _ = owner.partition(b"@")
    store.delete(f"{prefix}gateway:entry:{lost}")
    store.hset(f"{prefix}gateway:leaving", lost, digest + b" " + partition)
    assert found(stack, [lost]) == {lost}
    for _ in range(40):
        create(stack, f"What is {uuid.uuid4()}?")
    wait_until(lambda: settled(store, prefix), 20)
    assert found(stack, [lost]) == set()


def test_expired_entries_free_their_memory(small: Any, store: Any) -> None:
    stack, prefix = small
    short = [create(stack, f"What is {uuid.uuid4()}?", ttl=0.2) for _ in range(3)]
    ends = f"{prefix}gateway:ends"
    wait_until(lambda: not listed(stack) & set(short), 10)
    for _ in range(40):
        create(stack, f"What is {uuid.uuid4()}?")
    wait_until(lambda: all(store.zscore(ends, key) is None for key in short), 20)
    weights = f"{prefix}gateway:weights"
    sizes = [int(value.split()[0]) for value in store.hvals(weights)]
    assert sum(sizes) == int(store.get(f"{prefix}gateway:bytes"))
    assert not any(store.hexists(weights, key) for key in short)
