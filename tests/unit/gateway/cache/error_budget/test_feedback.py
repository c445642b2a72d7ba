import time
from dataclasses import asdict

import numpy as np
import pytest

from services.errors import NotFound, Unavailable
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import CollectionSpec, Document
from services.gateway.cache.admin import CacheAdmin
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.error_budget.feedback import Feedback
from services.gateway.cache.error_budget.store import ObservationStore
from services.gateway.cache.eviction import Eviction, MemoryLimits
from services.gateway.cache.index import FIELDS, collection_name
from services.gateway.cache.lookup_log import LookupLog
from services.gateway.cache.pricing import Prices
from services.gateway.cache.purge_store import PurgeStore
from services.gateway.cache.types import Context, Entry, Scope
from services.gateway.cache.usage import UsageRecorder
from services.gateway.cache.verifier.model import Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier
from tests.fakes.backends import FakeEmbedder, FakeSearch
from tests.fakes.cache_store import FakeCacheStore, fake_scopes, usage_stores
from tests.fakes.redis import FakeRedis

SCOPE = Scope("t", "u")
ON, ALSO_ON = "How do I turn dark mode on?", "How can I turn dark mode on?"


class House:
    """Feedback over a cache in memory."""

    def __init__(self) -> None:
        scopes, self.store, redis = fake_scopes(), FakeCacheStore(), FakeRedis()
        self.scopes, self.embedder, self.search = scopes, FakeEmbedder(), FakeSearch()
        self.controller = ErrorBudgetController(
            scopes,
            self.store,
            ObservationStore(redis, "p:"),  # type: ignore[arg-type]
            self.embedder,
            PairVerifier(Verifier.load(), None),
        )
        self.usage = UsageRecorder(scopes, self.store, usage_stores(redis), Prices())
        self.feedback = Feedback(
            CacheAdmin(
                scopes,
                self.store,
                PurgeStore(redis, "p:"),  # type: ignore[arg-type]
                self.search,
                Eviction(self.store, self.search, MemoryLimits()),
                LookupLog(redis, "p:", 10),  # type: ignore[arg-type]
            ),
            self.usage,
            self.controller,
            scopes,
            Backends(self.embedder, self.search),
        )

    async def add(self, context: Context | None = None, key: str = "on") -> None:
        context = context or Context(model="m")
        vectors = await self.embedder.embed_queries([ON])
        partition = await self.scopes.partition(SCOPE)
        entry = Entry(
            key,
            ON,
            "!",
            SCOPE,
            context.fingerprint,
            context.parts,
            time.time(),
            0,
            digest="digest",
        )
        await self.store.put(await self.scopes.owner(SCOPE), asdict(entry), 0)
        name = collection_name(vectors.digest, partition)
        await self.search.ensure(CollectionSpec(name, 256, vectors.digest, FIELDS))
        fields = {"partition": partition, "fingerprint": context.fingerprint}
        row = np.array(vectors.rows[0])
        await self.search.upsert(name, [Document(key, row, fields)], vectors.digest)  # type: ignore[arg-type]

    async def checked(self) -> float:
        return (await self.controller.counters("t"))["checked"]


@pytest.fixture
async def house() -> House:
    house = House()
    await house.add()
    return house


async def test_a_wrong_entry_is_deleted_and_counted(house: House) -> None:
    assert not await house.feedback.record(SCOPE, "on", "", correct=True)
    assert await house.feedback.record(SCOPE, "on", "", correct=False)
    assert not house.store.records
    assert not any(one.documents for one in house.search.collections.values())
    for whole_tenant in (False, True):
        counts = await house.usage.stats(SCOPE, whole_tenant=whole_tenant)
        assert (counts["right"], counts["wrong"]) == (1, 1)
    with pytest.raises(NotFound):
        await house.feedback.record(SCOPE, "on", "", correct=False)


async def test_only_the_owner_deletes_a_curated_entry(house: House) -> None:
    await house.add(key="curated-on")
    assert not await house.feedback.record(SCOPE, "curated-on", "", correct=False)
    assert "curated-on" in house.store.records
    assert (await house.usage.stats(SCOPE, whole_tenant=False))["wrong"] == 1


async def test_feedback_of_another_scope_is_rejected(house: House) -> None:
    with pytest.raises(NotFound):
        await house.feedback.record(Scope("t"), "on", "", correct=False)
    assert house.store.records


async def test_the_prompt_lets_every_replica_learn(house: House) -> None:
    await house.feedback.record(SCOPE, "on", "", correct=True)
    assert await house.checked() == 0  # another replica has served the entry
    await house.feedback.record(SCOPE, "on", ALSO_ON, correct=True)
    assert await house.checked() == 1


async def test_an_exact_hit_is_no_decision_of_the_budget(house: House) -> None:
    await house.feedback.record(SCOPE, "on", ON, correct=True)
    assert await house.checked() == 0


async def test_a_conversation_cannot_be_repeated() -> None:
    house = House()
    await house.add(Context(history=[("user", "Hello"), ("assistant", "Hi")]))
    await house.feedback.record(SCOPE, "on", ALSO_ON, correct=True)
    assert await house.checked() == 0


async def test_a_failing_search_does_not_stop_feedback(house: House) -> None:
    house.search.failures = [Unavailable("SEARCH_UNAVAILABLE", "Search is unreachable.")]
    assert await house.feedback.record(SCOPE, "on", ALSO_ON, correct=False)
    assert not house.store.records
