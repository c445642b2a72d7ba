"""Attacks on the search collections that the caches of all tenants share, on a real stack."""

import functools
import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import redis

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.gateway.cache import index
from tests.refusals import refusal
from tests.stack import Stack, wait_until, wait_until_ready

QUESTION = "How do I turn dark mode on?"
PARAPHRASE = "How can I turn dark mode on?"
MEMORY = 150_000  # for about 30 entries
THREE = np.ones(3, "<f4").tobytes()


class SharedStack:
    """A stack with keys and an empty Redis, and its callers."""

    def __init__(self, redis_url: str, prefix: str, file: Path) -> None:
        rows = [
            {"sha256": hashlib.sha256(key.encode()).hexdigest(), "tenant": key}
            for key in ("victim", "attacker")
        ]
        file.write_text(json.dumps(rows))
        self.prefix = f"{prefix}{uuid.uuid4()}:"
        self.redis: Any = redis.Redis.from_url(redis_url)
        self.stack = Stack(redis_url, self.prefix, api_keys_file=str(file), cache_memory=MEMORY)
        wait_until_ready(self.stack)
        self.cache = cache_pb2_grpc.CacheServiceStub(self.stack.gateway)
        self.search = search_pb2_grpc.SearchServiceStub(self.stack.search)
        embedder = embedder_pb2_grpc.EmbedderServiceStub(self.stack.embedder)
        self.model = embedder.GetModel(embedder_pb2.GetModelRequest()).model

    def create(self, key: str, **fields: Any) -> Any:
        request = cache_pb2.CreateEntryRequest(
            **{"prompt": QUESTION, "response": "Press it."} | fields
        )
        return self.cache.CreateEntry(request, metadata=bearer(key))

    def refused(self, **fields: Any) -> tuple[Any, ...]:
        """What the attacker gets for a CreateEntry."""
        request = cache_pb2.CreateEntryRequest(prompt=QUESTION, response="Press it.", **fields)
        call = functools.partial(self.cache.CreateEntry, metadata=bearer("attacker"))
        return refusal(call, request)[:2]

    def kind(self, key: str, prompt: str) -> str:
        request = cache_pb2.LookupEntryRequest(prompt=prompt, min_similarity=0.9)
        decision = self.cache.LookupEntry(request, metadata=bearer(key)).decision
        return cache_pb2.DecisionKind.Name(decision.kind).removeprefix("DECISION_KIND_")

    def collections(self) -> dict[str, int]:
        """The dimensions of every collection."""
        request = search_pb2.ListCollectionsRequest(include_internal=True)
        found = self.search.ListCollections(request).collections
        return {one.name: one.dimensions for one in found}

    def keys(self, pattern: str) -> list[str]:
        names = self.redis.scan_iter(f"{self.prefix}gateway:{pattern}", count=1000)
        return sorted(name.decode() for name in names)


def bearer(key: str) -> Any:
    return (("authorization", f"Bearer {key}"),)


@pytest.fixture
def shared(redis_url: str, prefix: str, tmp_path: Path) -> Iterator[SharedStack]:
    shared = SharedStack(redis_url, prefix, tmp_path / "keys.json")
    yield shared
    shared.stack.close()
    shared.redis.close()


def test_no_vector_of_a_caller_breaks_or_creates_an_index(shared: SharedStack) -> None:
    invalid, precondition = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
    digest = shared.model.digest
    whole = np.ones(shared.model.dimensions, "<f4").tobytes()
    expected: dict[str, int] = {}
    for _ in range(2):  # before the victim has an index, and after
        before = shared.keys("entr*"), shared.keys("request*"), shared.keys("worth*")
        wrong = shared.refused(vector=THREE, model_digest=digest, request_id="r")
        assert wrong == (invalid, "WRONG_DIMENSIONS")
        for invented in (digest[:16], digest[:16] + "0" * 48, "invented", "x" * 256):
            for vector in (THREE, whole):
                mismatch = shared.refused(vector=vector, model_digest=invented, request_id="r")
                assert mismatch == (precondition, "MODEL_MISMATCH")
        assert before == (shared.keys("entr*"), shared.keys("request*"), shared.keys("worth*"))
        assert shared.collections() == expected
        shared.create("victim")
        assert shared.kind("victim", PARAPHRASE) == "SEMANTIC"
        assert shared.kind("attacker", PARAPHRASE) == "MISS"
        [name] = shared.collections()
        assert name in index.collection_names(digest)
        expected = {name: shared.model.dimensions}
        assert shared.collections() == expected
    lookup = cache_pb2.LookupEntryRequest(vector=THREE, model_digest=digest)
    call = functools.partial(shared.cache.LookupEntry, metadata=bearer("victim"))
    assert refusal(call, lookup)[:2] == (invalid, "WRONG_DIMENSIONS")


def test_a_tenant_that_floods_the_cache_evicts_its_own_entries(shared: SharedStack) -> None:
    shared.create("victim")
    for number in range(80):
        shared.create(
            "attacker",
            prompt=f"How do I turn mode {number} on?",
            usage=cache_pb2.Usage(completion_tokens=2**50),
        )
    weights = f"{shared.prefix}gateway:weights"
    wait_until(lambda: shared.redis.hlen(weights) < 40, 20)
    assert shared.kind("victim", QUESTION) == "EXACT"
    assert shared.kind("victim", PARAPHRASE) == "SEMANTIC"


def test_an_earlier_versions_index_stays_in_use(shared: SharedStack) -> None:
    """The collection gets its earlier name while the gateway runs."""
    shared.create("victim")
    [name] = shared.collections()
    assert shared.kind("victim", PARAPHRASE) == "SEMANTIC"
    old = index.old_names(shared.model.digest)[name]
    rename(shared, name, old)
    assert shared.kind("victim", PARAPHRASE) == "MISS"
    # The next prompt of this model would create the collection, and adopts the old one instead.
    shared.create("victim", prompt="How do I turn the sound off?", response="Turn it down.")
    assert list(shared.collections()) == [old]
    assert shared.kind("victim", PARAPHRASE) == "SEMANTIC"
    assert shared.kind("victim", "How can I turn the sound off?") == "SEMANTIC"


def rename(shared: SharedStack, name: str, new: str) -> None:
    """Copy a collection to another name, and delete it."""
    collection = shared.search.GetCollection(search_pb2.GetCollectionRequest(name=name)).collection
    for output in ("document_count", "health", "aliases"):
        collection.ClearField(output)
    collection.name = new
    shared.search.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))
    page = shared.search.ListDocuments(
        search_pb2.ListDocumentsRequest(collection=name, return_vector=True)
    )
    shared.search.UpsertDocuments(
        search_pb2.UpsertDocumentsRequest(collection=new, documents=page.documents)
    )
    shared.search.DeleteCollection(search_pb2.DeleteCollectionRequest(name=name))
