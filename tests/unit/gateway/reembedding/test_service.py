import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from services.errors import Unavailable
from services.gateway.backends.types import TextModel
from services.gateway.reembedding.service import (
    PENDING,
    REPORT_CHECKS,
    STABLE_CHECKS,
    Reembedding,
)
from tests.fakes.leases import FakeLeases
from tests.fakes.redis import FakeRedis

OLD, NEW = TextModel("old", 2, 256), TextModel("new", 2, 256)


class FakeEmbedder:
    def __init__(self) -> None:
        self.models = [NEW]
        self.is_ready = True

    async def text_model(self) -> TextModel:
        if not self.is_ready:
            raise Unavailable("MODEL_LOADING", "The embedder is still loading its text model.")
        return self.models.pop(0) if len(self.models) > 1 else self.models[0]


class FakeKind:
    """Counts what is pending; ``work`` runs in place of the re-embedding."""

    def __init__(self, pending: int) -> None:
        self.pending = pending
        self.runs = 0
        self.work: Callable[[], Any] = lambda: None

    async def count(self, digest: str) -> int:
        return self.pending

    async def run(self, model: TextModel) -> None:
        self.runs += 1
        result = self.work()
        if result is not None:
            await result
        self.pending = 0


class World:
    def __init__(self, *, enabled: bool = True) -> None:
        self.redis, self.leases, self.embedder = FakeRedis(), FakeLeases(), FakeEmbedder()
        self.entries, self.documents = FakeKind(3), FakeKind(4)
        self.enabled = enabled

    def replica(self) -> Reembedding:
        parts: list[Any] = [self.redis, "p:", self.leases, self.embedder]
        kinds: dict[str, Any] = {"entries": self.entries, "documents": self.documents}
        return Reembedding(*parts, **kinds, enabled=self.enabled)


async def check(replica: Reembedding, times: int = STABLE_CHECKS) -> None:
    for _ in range(times):
        await replica.check()


async def test_it_works_once_when_the_model_is_stable() -> None:
    world = World()
    replica = world.replica()
    await check(replica, STABLE_CHECKS - 1)
    assert world.entries.runs == 0
    await check(replica, 5)
    assert (world.entries.runs, world.documents.runs) == (1, 1)
    assert world.leases.leader == ""
    await check(world.replica())  # another replica, or this one after a restart
    assert world.entries.runs == 1


async def test_two_models_at_once_start_nothing() -> None:
    world = World()
    world.embedder.models = [OLD, NEW, NEW, OLD, NEW, NEW, OLD]
    await check(world.replica(), 7)
    assert world.entries.runs == 0


async def test_a_check_while_the_embedder_loads_starts_again() -> None:
    world = World()
    replica = world.replica()
    await check(replica, 2)
    world.embedder.is_ready = False
    await check(replica, 1)
    world.embedder.is_ready = True
    await check(replica, 2)
    assert world.entries.runs == 0
    await check(replica, 1)
    assert world.entries.runs == 1


async def test_one_replica_works() -> None:
    world = World()
    world.leases.leader = "another replica"
    replica = world.replica()
    await check(replica)
    assert world.entries.runs == 0
    world.leases.leader = ""
    await check(replica, 1)
    assert world.entries.runs == 1


async def test_a_failure_is_followed_by_another_attempt() -> None:
    world = World()

    def fail() -> None:
        raise Unavailable("SEARCH_UNAVAILABLE", "Search is unreachable.")

    world.entries.work = fail
    replica = world.replica()
    with pytest.raises(Unavailable):
        await check(replica)
    assert world.leases.leader == ""
    world.entries.work = lambda: None
    await check(replica, 1)
    assert world.entries.runs == 2


async def test_a_lost_lease_stops_the_work() -> None:
    world = World()
    world.leases.seconds = 0.0
    forever = asyncio.Event()

    def lose_lease() -> Any:
        world.leases.leader = "another replica"
        return forever.wait()

    world.documents.work = lose_lease
    replica = world.replica()
    await check(replica)
    assert world.entries.runs == 0
    assert world.leases.leader == "another replica"
    world.leases.leader = ""
    world.documents.work = lambda: None
    await check(replica, 1)
    assert world.entries.runs == 1


async def test_what_is_pending_is_only_reported_when_it_is_switched_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(enabled=False)
    await check(world.replica())
    assert world.entries.runs == 0
    assert "3 cache entries and 4 chunks" in caplog.text
    assert PENDING.labels("entries")._value.get() == 3
    world.enabled = True
    await check(world.replica())
    assert world.entries.runs == 1


async def test_what_is_pending_is_counted_again_until_nothing_is() -> None:
    """A replica that has lost the lease, or that only reports, shows no old numbers."""
    world = World(enabled=False)
    replica = world.replica()
    await check(replica)
    assert PENDING.labels("entries")._value.get() == 3
    world.entries.pending = 1  # others have expired
    await check(replica, REPORT_CHECKS)
    assert PENDING.labels("entries")._value.get() == 1
    world.entries.pending = world.documents.pending = 0
    await check(replica, REPORT_CHECKS)
    assert PENDING.labels("entries")._value.get() == 0
    world.entries.count = world.documents.count = None  # type: ignore[assignment, method-assign]
    await check(replica, 2 * REPORT_CHECKS)


async def test_documents_that_an_earlier_version_left_behind_are_found() -> None:
    world = World()
    world.redis.values["p:gateway:text_model"] = NEW.digest.encode()
    await check(world.replica())
    assert world.documents.runs == 1


async def test_watch_survives_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr("services.gateway.reembedding.service.CHECK_SECONDS", 0.0)
    done = asyncio.Event()

    def fail_once() -> None:
        if world.entries.runs == 1:
            raise Unavailable("SEARCH_UNAVAILABLE", "Search is unreachable.")
        done.set()

    world.entries.work = fail_once
    watching = asyncio.create_task(world.replica().watch())
    await asyncio.wait_for(done.wait(), 10)
    watching.cancel()
