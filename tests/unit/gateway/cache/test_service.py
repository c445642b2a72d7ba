from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.errors import FailedPrecondition, InvalidArgument
from services.gateway.backends.types import TextReading, Vectors
from services.gateway.cache import index
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.error_budget.store import ObservationStore
from services.gateway.cache.eviction import Eviction, MemoryLimits
from services.gateway.cache.owners import Owner
from services.gateway.cache.semantic_tier import SemanticTier
from services.gateway.cache.service import Lifetimes, SemanticCache
from services.gateway.cache.similarity_policy import SimilarityPolicy
from services.gateway.cache.store import CacheBytes, StoredEntry
from services.gateway.cache.types import (
    VECTOR_FROM_CALLER,
    Bound,
    Context,
    Entry,
    NewEntry,
    Request,
    Scope,
)
from services.gateway.cache.vectors import unpack
from services.gateway.cache.verifier.model import Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier
from services.gateway.redis_store import dump
from tests.fakes.backends import DIMENSIONS, FakeEmbedder, FakeSearch
from tests.fakes.cache_store import FakeCacheStore, fake_scopes
from tests.fakes.redis import FakeRedis

PROMPT, PARAPHRASE = "How do I turn dark mode on?", "How can I turn dark mode on?"
NEAR = Bound(min_similarity=0.7)


class Cache:
    """A cache in memory, and its parts."""

    def __init__(self, **lifetimes: float) -> None:
        self.scopes, self.store = fake_scopes(), FakeCacheStore()
        self.embedder, self.search = FakeEmbedder(), FakeSearch()
        verifier = PairVerifier(Verifier.load(), None)
        observations = ObservationStore(FakeRedis(), "p:")  # type: ignore[arg-type]
        self.controller = ErrorBudgetController(
            self.scopes, self.store, observations, self.embedder, verifier
        )
        policy = SimilarityPolicy(verifier)
        self.service = SemanticCache(
            self.scopes,
            self.store,
            SemanticTier(
                self.scopes,
                self.store,
                self.search,
                policy,
                self.controller,
                embedder=self.embedder,
                default_bound=Bound(max_error_rate=0.03),
            ),
            self.embedder,
            eviction=Eviction(self.store, self.search, MemoryLimits()),
            controller=self.controller,
            lifetimes=Lifetimes(**{"ttl": 60.0} | lifetimes),
        )

    async def put(self, prompt: str = PROMPT, response: str = "Press it.", **parts: Any) -> Any:
        new = NewEntry(response, ttl=parts.pop("ttl", 0.0))
        return await self.service.put(request(prompt), new, **parts)

    async def lookup(self, prompt: str, mode: str = "exact_then_semantic") -> tuple[str, str]:
        decision = await self.service.lookup(request(prompt), mode, NEAR)
        return decision.kind, decision.miss_reason


def request(prompt: str) -> Request:
    return Request(Scope("t"), Context(model="m"), prompt)


@pytest.fixture
def cache() -> Cache:
    return Cache()


async def test_the_tiers_are_asked_in_turn(cache: Cache) -> None:
    entry = await cache.put()
    assert entry.response == "Press it."
    assert await cache.lookup(PROMPT) == ("exact", "")
    assert await cache.lookup(PARAPHRASE) == ("semantic", "")
    assert await cache.lookup(PARAPHRASE, "exact") == ("miss", "not_exact")
    assert await cache.lookup(PROMPT, "semantic") == ("semantic", "")
    with pytest.raises(InvalidArgument):
        await cache.lookup(" ")


async def test_an_exact_hit_needs_no_embedding(cache: Cache) -> None:
    await cache.put()
    cache.embedder.failures = [AssertionError("embedded")]  # type: ignore[list-item]
    assert await cache.lookup(PROMPT) == ("exact", "")


async def test_equal_requests_replace_their_entry(cache: Cache) -> None:
    first, second = await cache.put(), await cache.put(response="Ask support.")
    assert first.id == second.id
    decision = await cache.service.get(request(PROMPT), Bound())
    assert decision.entry
    assert (decision.entry.response, decision.probability) == ("Ask support.", 1.0)


async def test_a_request_id_returns_what_it_stored_first(cache: Cache) -> None:
    first = await cache.put(request_id="r")
    assert await cache.put(request_id="r") == first
    assert await cache.put("Another prompt?", request_id="r") == first
    changed = await cache.put(response="Ask support.", request_id="r")
    assert (changed.id, changed.response) == (first.id, "Ask support.")


async def test_a_purge_keeps_out_answers_from_before(cache: Cache) -> None:
    before = await cache.service.purge_count(Scope("t"))
    await cache.store.begin_purge(await cache.scopes.owner(Scope("t")))
    await cache.put(purge_count=before)
    assert await cache.lookup(PROMPT, "exact") == ("miss", "not_exact")
    await cache.put(purge_count=before + 1)
    assert await cache.lookup(PROMPT, "exact") == ("exact", "")


async def test_entries_live_for_their_time_and_the_stale_time() -> None:
    ttls: list[float] = []

    class RecordingStore(FakeCacheStore):
        async def put(self, owner: Owner, record: Any, ttl: float, *rest: Any) -> CacheBytes:
            ttls.append(ttl)
            return await super().put(owner, record, ttl, *rest)

    cache = Cache(max_stale=5.0)
    cache.service._store = RecordingStore()
    assert (await cache.put()).ttl == 60
    assert (await cache.put(ttl=7.0)).ttl == 7
    unlimited = Cache(ttl=0.0, max_stale=5.0)
    unlimited.service._store = cache.service._store
    assert (await unlimited.put()).ttl == 0
    assert ttls == [65, 12, 0]
    [documents] = [one.documents for one in cache.search.collections.values()]
    assert [one.ttl for one in documents.values()] == [12]


async def test_a_callers_vector_is_stored_as_a_unit_vector(cache: Cache) -> None:
    row = np.zeros((1, DIMENSIONS), np.float32)
    row[0, :2] = 3, 4
    vectors = Vectors(row, "", cache.embedder.model.digest)
    entry = await cache.put(vectors=vectors)
    unpacked = unpack(entry.vector)
    assert unpacked is not None
    assert unpacked[:2].tolist() == pytest.approx([0.6, 0.8], abs=1e-3)
    assert entry.digest == cache.embedder.model.digest
    decision = await cache.service.lookup_by_vector(request(""), vectors, NEAR)
    assert decision.kind == "semantic"


async def test_a_callers_vector_of_other_dimensions_creates_nothing(cache: Cache) -> None:
    vectors = Vectors(np.ones((1, 3), np.float32), "", cache.embedder.model.digest)
    for _ in range(2):  # without an index, and with one
        with pytest.raises(InvalidArgument) as caught:
            await cache.put(vectors=vectors, request_id="claimed")
        assert (caught.value.reason, caught.value.field) == ("WRONG_DIMENSIONS", "vector")
        assert caught.value.metadata == {"expected": str(DIMENSIONS), "given": "3"}
        await cache.put(PARAPHRASE)
    [created] = cache.search.collections.values()
    assert created.spec.dimensions == DIMENSIONS
    assert len(created.documents) == 1
    # The refused calls have not claimed the request id.
    assert (await cache.put(request_id="claimed")).prompt == PROMPT


async def test_a_vector_of_another_model_creates_nothing(cache: Cache) -> None:
    vectors = Vectors(np.ones((1, 3), np.float32), "", "invented")
    with pytest.raises(FailedPrecondition) as caught:
        await cache.put(vectors=vectors, request_id="claimed")
    assert caught.value.reason == "MODEL_MISMATCH"
    assert cache.search.collections == {}
    assert cache.store.records == {}
    assert (await cache.put(request_id="claimed")).prompt == PROMPT


async def test_a_vector_of_an_earlier_model_is_stored_while_the_model_has_an_index(
    cache: Cache,
) -> None:
    await cache.put()
    row = np.ones((1, DIMENSIONS), np.float32)
    cache.embedder.model = replace(cache.embedder.model, digest="later")
    entry = await cache.put(PARAPHRASE, vectors=Vectors(row, "", "digest"))
    assert entry.digest == "digest"


@pytest.mark.parametrize(
    ("prompt", "response", "reason"),
    [("", "Press it.", "EMPTY_PROMPT"), (PROMPT, "", "EMPTY_RESPONSE")],
)
async def test_bad_entries_are_rejected(
    cache: Cache, prompt: str, response: str, reason: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await cache.put(prompt, response)
    assert caught.value.reason == reason
    assert not cache.store.records


async def test_requests_share_an_answer_if_they_accept_the_same_age(cache: Cache) -> None:
    keys = [
        await cache.service.request_key(request(PROMPT), bound)
        for bound in (Bound(), Bound(min_similarity=0.5), Bound(max_age=5.0))
    ]
    assert keys[0] == keys[1] != keys[2]


async def test_a_query_for_others_searches_finds_the_same(cache: Cache) -> None:
    await cache.put()
    vectors = await cache.embedder.embed_queries([PARAPHRASE])
    query = await cache.service.semantic_query(request(PARAPHRASE), vectors, NEAR)
    [hits] = await cache.search.search([query], vectors.digest)
    decision = await cache.service.choose(request(PARAPHRASE), hits, NEAR, vectors)
    assert decision.kind == "semantic"


async def test_the_answer_to_a_miss_teaches_the_budget(cache: Cache) -> None:
    await cache.put()
    strict = Bound(max_error_rate=0.0001)
    missed = await cache.service.lookup(request(PROMPT.rstrip("?")), "exact_then_semantic", strict)
    assert missed.miss_reason == "explores"
    await cache.put(PROMPT.rstrip("?"), "press  it.")
    for task in list(cache.controller._tasks):
        await task
    again = await cache.service.lookup(request("How might I turn it on?"), "semantic", strict)
    assert again.kind == "miss"
    counters = await cache.controller.counters("t")
    assert counters == {"checked": 0, "checked_wrong": 0}  # misses are not checked hits
    tenant = await cache.scopes.tenant_partition("t")
    budget = await cache.controller._budgets.get(tenant)
    assert len(budget._labels) == 1
    await cache.controller.close()


async def test_a_prompt_that_the_model_does_not_read_is_in_the_exact_tier_only() -> None:
    cache = Cache()
    for prompt in (PROMPT, PARAPHRASE):
        cache.embedder.readings[prompt] = TextReading(readable=False, unread=((0, len(prompt)),))
    entry = await cache.put()
    assert entry.unread == [0, len(PROMPT)]
    assert not cache.search.collections
    assert await cache.lookup(PROMPT) == ("exact", "")
    assert await cache.lookup(PARAPHRASE) == ("miss", "unreadable")


async def test_entries_say_what_the_model_did_not_read() -> None:
    cache = Cache()
    assert (await cache.put()).unread == []
    made = await cache.embedder.embed_queries(["Another?"])
    of_caller = await cache.put("Another?", vectors=Vectors(made.rows, "", made.digest))
    assert of_caller.unread is None
    assert VECTOR_FROM_CALLER in of_caller.detail


def stored(cache: Cache, entry: Entry, ttl: float = 0.0) -> StoredEntry:
    [record] = [one for _, one in cache.store.records.values() if one["id"] == entry.id]
    return StoredEntry(entry.id, dump(record), record, ttl)


async def test_a_new_vector_carries_the_models_reading(cache: Cache) -> None:
    history = [("user", "Hi 猫")]
    spoken = Request(Scope("t"), Context(model="m", history=history), "And 狗?")
    entry = await cache.service.put(spoken, NewEntry("Yes."))
    assert entry.unread == []
    later = FakeEmbedder("later")
    text = spoken.embedding_text
    later.readings[text] = TextReading(True, False, ((3, 4), (9, 10)))
    await cache.service.replace_vector(stored(cache, entry), await later.embed_queries([text]))
    decision = await cache.service.get(spoken, Bound())
    assert decision.entry
    assert (decision.entry.digest, decision.entry.unread) == ("later", [4, 5])
    held = {one.spec.model_digest: list(one.documents) for one in cache.search.collections.values()}
    assert held == {"digest": [], "later": [entry.id]}


async def test_an_entry_that_was_deleted_gets_no_vector(cache: Cache) -> None:
    entry = await cache.put()
    before = stored(cache, entry)
    await cache.store.delete([entry.id])
    vectors = await FakeEmbedder("later").embed_queries([PROMPT])
    await cache.service.replace_vector(before, vectors)
    assert not cache.search.documents(index.collection_name("later", await partition(cache)))


async def partition(cache: Cache) -> str:
    return await cache.scopes.partition(Scope("t"))
