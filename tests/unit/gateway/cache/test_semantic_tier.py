import time
from dataclasses import asdict

import pytest

from services.errors import FailedPrecondition
from services.gateway.backends.types import Hit, TextReading
from services.gateway.cache import index
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.error_budget.store import ObservationStore
from services.gateway.cache.semantic_tier import SemanticTier
from services.gateway.cache.similarity_policy import SimilarityPolicy
from services.gateway.cache.types import READING, Bound, Context, Decision, Entry, Request, Scope
from services.gateway.cache.vectors import pack
from services.gateway.cache.verifier.model import Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier
from services.gateway.redis_store import Record
from tests.fakes.backends import FakeEmbedder, FakeSearch
from tests.fakes.cache_store import FakeCacheStore, fake_scopes
from tests.fakes.redis import FakeRedis

ON, ALSO_ON, OFF = (
    "How do I turn dark mode on?",
    "How can I turn dark mode on?",
    "How do I turn dark mode off?",
)
NEAR = Bound(min_similarity=0.7)


class Tier:
    """A semantic tier whose entries and prompts are in memory."""

    def __init__(self) -> None:
        self.scopes, self.store = fake_scopes(), FakeCacheStore()
        self.embedder, self.search = FakeEmbedder(), FakeSearch()
        verifier, redis = PairVerifier(Verifier.load(), None), FakeRedis()
        observations = ObservationStore(redis, "p:")  # type: ignore[arg-type]
        self.controller = ErrorBudgetController(
            self.scopes, self.store, observations, self.embedder, verifier
        )
        policy = SimilarityPolicy(verifier)
        self.tier = SemanticTier(
            self.scopes,
            self.store,
            self.search,
            policy,
            self.controller,
            embedder=self.embedder,
            default_bound=Bound(max_error_rate=0.03),
        )

    async def add(
        self,
        request: Request,
        key: str,
        age: float = 0.0,
        ttl: float = 0.0,
        unread: list[int] | None = None,
    ) -> None:
        vectors = await self.embedder.embed_queries([request.embedding_text])
        partition = await self.scopes.partition(request.scope)
        entry = Entry(
            key,
            request.prompt,
            f"Answer {key}.",
            request.scope,
            request.context.fingerprint,
            request.context.parts,
            time.time() - age,
            ttl,
            vector=pack(vectors.rows[0]),
            digest=vectors.digest,
            detail={READING: {"digest": vectors.digest, "unread": unread}} if unread else {},
        )
        await self.store.put(await self.scopes.owner(request.scope), asdict(entry), 0)
        await self.tier.add(entry, vectors, partition, 0)

    async def lookup(self, request: Request, bound: Bound = NEAR) -> Decision:
        vectors = await self.embedder.embed_queries([request.embedding_text])
        return await self.tier.lookup(request, vectors, bound)


def request(prompt: str, *, scope: str = "t", model: str = "m", **context: object) -> Request:
    return Request(Scope(scope), Context(model=model, **context), prompt)  # type: ignore[arg-type]


@pytest.fixture
def tier() -> Tier:
    return Tier()


async def test_the_nearest_entry_that_does_not_contradict_is_served(tier: Tier) -> None:
    await tier.add(request(OFF), "off")
    await tier.add(request(ALSO_ON), "on")
    decision = await tier.lookup(request(ON))
    assert decision.entry
    assert (decision.kind, decision.entry.id) == ("semantic", "on")


async def test_the_reason_of_a_miss_is_that_of_the_nearest_entry(tier: Tier) -> None:
    await tier.add(request(OFF), "off")
    assert (await tier.lookup(request(ON))).miss_reason == "contradicts"
    decision = await tier.lookup(request("Why is the sky blue?"))
    assert (decision.miss_reason, decision.entry) == ("not_similar", None)


async def test_entries_beyond_one_that_is_not_similar_are_not_read(
    tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, prompt in (("off", OFF), ("far", "Why is the sky blue?"), ("farther", ON)):
        await tier.add(request(prompt), key)
    read: list[str] = []
    get = tier.store.get

    async def counted(key: str) -> Record | None:
        read.append(key)
        return await get(key)

    monkeypatch.setattr(tier.store, "get", counted)
    vectors = await tier.embedder.embed_queries([ON])
    hits = [_hit("off", 0.9), _hit("far", 0.6), _hit("farther", 0.5)]
    decision = await tier.tier.choose(request(ON), hits, NEAR, vectors)
    assert (decision.miss_reason, read) == ("contradicts", ["off", "far"])


async def test_nothing_crosses_a_scope(tier: Tier) -> None:
    await tier.add(request(ON, scope="other"), "on")
    decision = await tier.lookup(request(ON), Bound(min_similarity=-1))
    assert (decision.kind, decision.miss_reason) == ("miss", "empty")


async def test_another_context_is_explained_by_its_parts(tier: Tier) -> None:
    await tier.add(request(ON, model="other", tools=["x"]), "on")
    decision = await tier.lookup(request(ON))
    assert (decision.miss_reason, decision.differing_parts) == (
        "context_differs",
        ["model", "tools"],
    )
    far = await tier.lookup(request("Why is the sky blue?"))
    assert far.miss_reason == "not_similar"


async def test_old_entries_are_passed_over(tier: Tier) -> None:
    await tier.add(request(ON), "old", age=20, ttl=10)
    assert (await tier.lookup(request(ON))).miss_reason == "too_old"
    stale = Bound(min_similarity=0.7, max_stale=60)
    assert (await tier.lookup(request(ON), stale)).kind == "semantic"
    await tier.add(request(ALSO_ON), "new")
    decision = await tier.lookup(request(ON))
    assert decision.entry
    assert decision.entry.id == "new"


async def test_entries_that_search_alone_still_holds_are_passed_over(tier: Tier) -> None:
    await tier.add(request(ON), "evicted")
    await tier.store.delete(["evicted"])
    assert (await tier.lookup(request(ON))).miss_reason == "empty"


async def test_a_conversation_needs_the_same_content_words(tier: Tier) -> None:
    history = [("user", "How do I turn dark mode on?"), ("assistant", "In the settings.")]
    await tier.add(request("And on my phone?", history=history), "phone")
    decision = await tier.lookup(request("And on my tablet?", history=history))
    assert decision.kind == "miss"
    vectors = await tier.embedder.embed_queries(["x"])
    hits = [_hit("phone", 0.99)]
    same = request("and on my phone", history=history)
    assert (await tier.tier.choose(same, hits, NEAR, vectors)).kind == "semantic"


async def test_a_budget_looks_at_more_candidates(tier: Tier) -> None:
    vectors = await tier.embedder.embed_queries(["x"])
    one = await tier.tier.query(request("x"), vectors, NEAR)
    budget = await tier.tier.query(request("x"), vectors, Bound(max_error_rate=0.1))
    assert (one.limit, budget.limit) == (index.SIMILARITY_CANDIDATES, index.BUDGET_CANDIDATES)
    assert one.tags == budget.tags
    assert one.tags["fingerprint"] == [request("x").context.fingerprint]
    assert one.ef == index.EF


async def test_a_budget_decides_by_its_probability(tier: Tier) -> None:
    await tier.add(request(ON.rstrip("?")), "on")
    loose = await tier.lookup(request(ON), Bound(max_error_rate=0.5))
    assert (loose.kind, loose.trial and loose.trial.entry_id) == ("semantic", "on")
    strict = await tier.lookup(request(ON), Bound(max_error_rate=0.0001))
    assert (strict.kind, strict.miss_reason) == ("miss", "explores")
    elsewhere = await tier.lookup(request(ON, scope="u"), Bound(max_error_rate=0.5))
    assert elsewhere.miss_reason == "empty"
    await tier.controller.close()


async def test_vectors_of_another_model_are_a_miss(tier: Tier) -> None:
    await tier.add(request(ON), "on")
    tier.search.failures = [FailedPrecondition("MODEL_DIFFERS", "Another model.")]
    assert (await tier.lookup(request(ON))).miss_reason == "model_differs"


async def test_a_scope_without_a_collection_is_empty(tier: Tier) -> None:
    assert (await tier.lookup(request(ON))).miss_reason == "empty"


CONTRACT = "The contract. " * 10
SPLIT = len(CONTRACT)


@pytest.mark.parametrize("bound", [NEAR, Bound(max_error_rate=0.5)])
@pytest.mark.parametrize("stored", [True, False])
async def test_prompts_must_agree_beyond_the_models_cut(
    tier: Tier, bound: Bound, stored: bool
) -> None:
    """An entry of an earlier version is stored without what the model did not read."""
    paris, paris_too, rome = f"{CONTRACT}Paris.", f"{CONTRACT} PARIS", f"{CONTRACT}Rome."
    for prompt in (paris, paris_too, rome):
        tail = (SPLIT, len(prompt))
        tier.embedder.readings[prompt] = TextReading(True, True, (tail,))
    await tier.add(request(paris), "paris", unread=[SPLIT, len(paris)] if stored else None)
    hits = [_hit("paris", 1.0)]
    for prompt, expected in ((paris_too, "semantic"), (rome, "miss"), (CONTRACT, "miss")):
        vectors = await tier.embedder.embed_queries([prompt])
        decision = await tier.tier.choose(request(prompt), hits, bound, vectors)
        assert decision.kind == expected
        if expected == "miss":
            assert (decision.miss_reason, decision.entry) == ("contradicts", None)
    await tier.controller.close()


@pytest.mark.parametrize("bound", [NEAR, Bound(max_error_rate=0.5)])
async def test_a_prompt_that_the_model_does_not_read_has_no_semantic_hit(
    tier: Tier, bound: Bound
) -> None:
    await tier.add(request(ALSO_ON), "on")
    tier.embedder.readings[ON] = TextReading(readable=False, unread=((0, 9),))
    decision = await tier.lookup(request(ON), bound)
    assert (decision.kind, decision.miss_reason) == ("miss", "unreadable")
    vectors = await tier.embedder.embed_queries([ON])
    chosen = await tier.tier.choose(request(ON), [_hit("on", 1.0)], bound, vectors)
    assert (chosen.kind, chosen.miss_reason) == ("miss", "unreadable")


def _hit(key: str, similarity: float) -> Hit:
    return Hit(key, similarity, 1 - similarity, {}, "", b"")
