import asyncio
from dataclasses import replace

import pytest

from services.errors import Unavailable
from services.gateway.cache import usage
from services.gateway.cache.lookup_log import LoggedLookup
from services.gateway.cache.pricing import Prices
from services.gateway.cache.types import Context, Decision, Entry, Nearest, Request, Scope
from services.gateway.cache.usage import UsageRecorder
from tests.fakes.cache_store import FakeCacheStore, fake_scopes, usage_stores
from tests.fakes.redis import FakeRedis

ONE, OTHER = Scope("t", "u"), Scope("t", "v")
ENTRY = Entry("e", "?", "!", ONE, "f", {}, 0.0, 0.0, usage={"completion_tokens": 10}, seconds=2.0)
EXACT, MISS = Decision("exact", ENTRY, 1.0, 1.0), Decision("miss")
SEMANTIC = Decision("semantic", ENTRY, 0.9, 0.75)


@pytest.fixture
def store() -> FakeCacheStore:
    return FakeCacheStore()


@pytest.fixture
def recorder(store: FakeCacheStore) -> UsageRecorder:
    return UsageRecorder(fake_scopes(), store, usage_stores(FakeRedis()), Prices(0.0, 100_000.0))


async def test_lookups_count_for_their_scope_and_their_tenant(recorder: UsageRecorder) -> None:
    recorder.record(ONE, EXACT, 0.001)
    recorder.record(ONE, SEMANTIC, 0.0002)
    recorder.record(OTHER, MISS, 100.0)
    counts = await recorder.stats(ONE, whole_tenant=False)
    assert (counts["exact"], counts["semantic"], counts.get("miss")) == (1, 1, None)
    assert (counts["completion_tokens"], counts["seconds"], counts["money"]) == (20, 4, 2)
    assert counts["expected_wrong"] == 0.25
    assert counts["took:semantic:0"] == counts["took:exact:2"] == 1
    whole = await recorder.stats(OTHER, whole_tenant=True)
    assert (whole["exact"], whole["semantic"], whole["miss"]) == (1, 1, 1)
    assert whole["took:miss:15"] == 1
    await recorder.close()


async def test_hits_of_curated_entries_are_counted(recorder: UsageRecorder) -> None:
    curated = Decision("exact", replace(ENTRY, id="curated-e"))
    for decision in (curated, EXACT, MISS):
        recorder.record(ONE, decision, 0.0)
    counts = await recorder.stats(ONE, whole_tenant=False)
    assert (counts["curated"], counts["exact"]) == (1, 2)
    await recorder.close()


async def test_hits_raise_the_priority_of_their_entry(
    recorder: UsageRecorder, store: FakeCacheStore
) -> None:
    for decision in (EXACT, SEMANTIC, MISS):
        recorder.record(ONE, decision, 0.0)
    await recorder.flush()
    assert store.hits == {"e": 2}
    await recorder.flush()
    assert store.hits == {"e": 2}
    await recorder.close()


async def test_only_the_tenant_has_a_history(recorder: UsageRecorder) -> None:
    recorder.record(ONE, EXACT, 0.0)
    await recorder.record_feedback(ONE, correct=True)
    await recorder.record_feedback(OTHER, correct=False)
    await recorder.flush()
    slots = [counts for _, counts in await recorder.history("t") if counts]
    assert {name: sum(slot.get(name, 0) for slot in slots) for name in ("exact", "right")} == {
        "exact": 1,
        "right": 1,
    }
    counts = await recorder.stats(ONE, whole_tenant=False)
    assert (counts["right"], counts.get("wrong")) == (1, None)
    assert not any(counts for _, counts in await recorder.history("another"))
    await recorder.close()


async def test_a_task_flushes_until_nothing_is_buffered(
    recorder: UsageRecorder, store: FakeCacheStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "FLUSH_PERIOD", 0.0)
    recorder.record(ONE, EXACT, 0.0)
    task = recorder._task
    assert task is not None
    await asyncio.wait_for(task, 10)
    assert store.hits == {"e": 1}
    recorder.record(ONE, EXACT, 0.0)
    assert recorder._task is not task
    await recorder.close()
    assert store.hits == {"e": 2}


async def test_a_failing_store_loses_counts_only(
    recorder: UsageRecorder, store: FakeCacheStore
) -> None:
    store.failure = Unavailable("REDIS_UNAVAILABLE", "Redis is unreachable.")
    recorder.record(ONE, EXACT, 0.0)
    await recorder.close()
    store.failure = None
    assert (await recorder.stats(ONE, whole_tenant=False))["exact"] == 1
    assert store.hits == {}


async def test_a_cancelled_caller_loses_no_counts(
    recorder: UsageRecorder, store: FakeCacheStore
) -> None:
    recorder.record(ONE, EXACT, 0.0)
    caller = asyncio.create_task(recorder.stats(ONE, whole_tenant=False))
    await asyncio.sleep(0)  # the write has begun
    caller.cancel()
    await asyncio.wait([caller])
    await recorder.close()
    assert store.hits == {"e": 1}
    assert (await recorder.stats(ONE, whole_tenant=False))["exact"] == 1


async def test_many_events_let_other_tasks_run(
    recorder: UsageRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "EVENTS_PER_STEP", 2)
    for _ in range(10):
        recorder.record(ONE, MISS, 0.0)
    steps = 0

    async def count_steps() -> None:
        nonlocal steps
        while True:
            steps += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count_steps())
    await recorder.flush()
    counter.cancel()
    assert steps >= 5
    await recorder.close()


def asked(prompt: str, scope: Scope = ONE) -> Request:
    return Request(scope, Context(), prompt)


async def logged(recorder: UsageRecorder) -> list[LoggedLookup]:
    await recorder.flush()
    return await recorder._log.read(await recorder._scopes.tenant_partition("t"))


async def test_semantic_hits_and_misses_are_logged(recorder: UsageRecorder) -> None:
    near = Decision("miss", similarity=0.9, miss_reason="not_similar", nearest=Nearest("n", "N?"))
    for decision, prompt in ((SEMANTIC, "a"), (near, "b"), (EXACT, "c"), (Decision("bypass"), "d")):
        recorder.record(ONE, decision, 0.0, asked(prompt))
    recorder.record(ONE, near, 0.0)  # a caller that wants nothing to be stored
    recorder.record(ONE, near, 0.0, asked(" "))
    found = {one.prompt: one for one in await logged(recorder)}
    assert {*found} == {"a", "b"}
    assert (found["a"].entry_id, found["a"].nearest_prompt) == ("e", "?")
    assert found["b"].entry_id == await recorder._scopes.entry_id(asked("b"))
    assert (found["b"].nearest_id, found["b"].reason) == ("n", "not_similar")
    await recorder.close()


async def test_the_latest_of_many_lookups_are_logged(recorder: UsageRecorder) -> None:
    for number in range(30):
        recorder.record(ONE, MISS, 0.0, asked(f"{number}"))
    assert {one.prompt for one in await logged(recorder)} == {f"{n}" for n in range(20, 30)}
    await recorder.close()


async def test_the_log_can_be_turned_off(store: FakeCacheStore) -> None:
    recorder = UsageRecorder(fake_scopes(), store, usage_stores(FakeRedis(), 0), Prices())
    recorder.record(ONE, MISS, 0.0, asked("a"))
    assert await logged(recorder) == []
    await recorder.close()


async def test_a_namespace_counts_for_all_its_users(recorder: UsageRecorder) -> None:
    shop = [Scope("t", user, "shop") for user in ("u", "v")]
    for scope in shop:
        recorder.record(scope, EXACT, 0.0)
    recorder.record(ONE, MISS, 0.0)
    await recorder.record_feedback(shop[0], correct=False)
    counts = await recorder.namespace_stats("t", "shop")
    assert (counts["exact"], counts["wrong"], counts.get("miss")) == (2, 1, None)
    assert (await recorder.namespace_stats("t", ""))["miss"] == 1
    slots = [one for _, one in await recorder.history("t", "shop") if one]
    assert sum(one.get("exact", 0) for one in slots) == 2
    assert (await recorder.stats(ONE, whole_tenant=True))["exact"] == 2
    assert await recorder._names.tenants() == ["t"]
    tenant = await recorder._scopes.tenant_partition("t")
    assert await recorder._names.namespaces(tenant) == ["", "shop"]
    await recorder.close()
