import asyncio
import functools
from collections.abc import AsyncGenerator

import pytest

from services import deadlines
from services.errors import Aborted, DeadlineExceeded, Failure, NotFound
from services.gateway.coalescing.leases import Batch
from services.gateway.coalescing.singleflight import READ_ATTEMPTS, Item, Singleflight
from services.gateway.llm.errors import refused, upstream_error
from tests.fakes.leases import FakeLeases

ITEMS = [{"chunk": 1}, {"done": {"n": 1}}]


class Work:
    """Yields a chunk, then waits for ``finish`` before it ends or fails."""

    def __init__(self, failure: Failure | None = None) -> None:
        self.executions = 0
        self.started, self.finish = asyncio.Event(), asyncio.Event()
        self.ended = asyncio.Event()
        self._failure = failure

    async def __call__(self) -> AsyncGenerator[Item]:
        self.executions += 1
        yield {"chunk": 1}
        self.started.set()
        try:
            await self.finish.wait()
        finally:
            self.ended.set()
        if self._failure:
            raise self._failure
        yield {"done": {"n": self.executions}}


async def collect(singleflight: Singleflight, work: Work, **options: bool) -> list[Item]:
    return [item async for item in singleflight.do("name", work, **options).follow()]


async def test_callers_on_all_replicas_share_one_execution() -> None:
    leases, work = FakeLeases(), Work()
    replicas = [Singleflight(leases) for _ in range(3)]
    tasks = [asyncio.create_task(collect(one, work)) for one in replicas for _ in range(5)]
    await leases.wait_for(lambda: leases.waiting == 2)
    work.finish.set()
    assert await asyncio.gather(*tasks) == [ITEMS] * 15
    assert work.executions == 1


@pytest.mark.parametrize(
    "failure",
    [
        refused(
            429, b'{"error": {"message": "Busy.", "type": "t", "code": "c"}}', {"retry-after": "3"}
        ),
        NotFound("GONE", "It is gone.", field="id", id=7),
    ],
)
async def test_a_follower_raises_the_failure_of_its_leader(failure: Failure) -> None:
    leases, work = FakeLeases(), Work(failure)
    tasks = [asyncio.create_task(collect(Singleflight(leases), work)) for _ in range(3)]
    await leases.wait_for(lambda: leases.waiting == 2)
    work.finish.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    for error in errors:
        assert isinstance(error, type(failure))
        assert vars(error) == vars(failure)
        assert upstream_error(error) == upstream_error(failure)
    assert work.executions == 1


async def test_without_redis_each_replica_does_its_own_work() -> None:
    leases, work = FakeLeases(), Work()
    leases.is_unreachable = True
    work.finish.set()
    assert (await collect(Singleflight(leases), work))[-1] == {"done": {"n": 1}}
    assert (await collect(Singleflight(leases), work))[-1] == {"done": {"n": 2}}


async def test_close_fails_the_callers_and_releases_the_lease() -> None:
    leases, work = FakeLeases(), Work()
    singleflight = Singleflight(leases)
    task = asyncio.create_task(collect(singleflight, work))
    await work.started.wait()
    await singleflight.close()
    with pytest.raises(Aborted) as caught:
        await task
    assert caught.value.reason == "LEADER_LOST"
    assert not leases.leader


async def test_a_follower_that_has_seen_nothing_takes_over_from_a_leader_that_is_gone() -> None:
    leases, work = FakeLeases(), Work()
    leases.leader = "token-of-a-dead-replica"
    task = asyncio.create_task(collect(Singleflight(leases), work))
    await leases.wait_for(lambda: leases.waiting == 1)
    leases.leader = ""
    work.finish.set()
    assert await task == ITEMS


async def test_a_follower_that_has_seen_items_fails_if_its_leader_is_gone() -> None:
    leases, work = FakeLeases(), Work()
    leases.leader = "dead"
    leases.batches = [Batch("dead", 0, [{"chunk": 1}])]
    call = Singleflight(leases).do("name", work)
    follower = call.follow()
    assert await anext(follower) == {"chunk": 1}
    leases.leader = ""
    with pytest.raises(Aborted):
        await anext(follower)
    assert work.executions == 0


async def test_a_name_is_free_again_once_its_work_has_ended() -> None:
    leases, work = FakeLeases(), Work()
    singleflight = Singleflight(leases)
    work.finish.set()
    await collect(singleflight, work)
    await leases.wait_for(lambda: not leases.leader)
    await singleflight.close()  # waits until the task has ended, too
    assert (await collect(singleflight, work))[-1] == {"done": {"n": 2}}


async def test_an_error_that_is_no_failure_reaches_the_callers() -> None:
    async def broken() -> AsyncGenerator[Item]:
        raise ZeroDivisionError
        yield {}

    with pytest.raises(ZeroDivisionError):
        async for _ in Singleflight(FakeLeases()).do("name", broken).follow():
            pass


async def test_a_gap_in_the_items_ends_a_follower_with_an_error() -> None:
    leases, work = FakeLeases(), Work()
    leases.leader = "other"
    leases.batches = [Batch("other", 0, [{"chunk": 1}]), Batch("other", 2, [{"done": {}}])]
    follower = Singleflight(leases).do("name", work).follow()
    assert await anext(follower) == {"chunk": 1}
    with pytest.raises(Aborted):
        await anext(follower)
    assert work.executions == 0


async def test_a_follower_without_the_first_items_does_its_own_work() -> None:
    leases, work = FakeLeases(), Work()
    leases.leader = "other"
    leases.batches = [Batch("other", 1, [{"done": {}}])]
    work.finish.set()
    assert await collect(Singleflight(leases), work) == ITEMS


async def test_a_leader_publishes_nothing_after_a_failed_publish() -> None:
    leases, work = FakeLeases(), Work()
    leases.failing = 1
    leader = asyncio.create_task(collect(Singleflight(leases), work))
    await work.started.wait()
    follower = asyncio.create_task(collect(Singleflight(leases), work))
    await leases.wait_for(lambda: not leases.failing and not leases.leader)
    work.finish.set()
    assert (await leader)[0] == {"chunk": 1}
    assert [item for item in await follower if "chunk" in item] == [{"chunk": 1}]
    assert {batch.token for batch in leases.batches} <= {"token-2"}


async def test_a_follower_survives_a_failed_read() -> None:
    leases, work = FakeLeases(), Work()
    leader = asyncio.create_task(collect(Singleflight(leases), work))
    await work.started.wait()
    leases.failed_reads = READ_ATTEMPTS - 1
    follower = asyncio.create_task(collect(Singleflight(leases), work))
    await leases.wait_for(lambda: leases.waiting == 1)
    work.finish.set()
    assert await leader == await follower == ITEMS
    assert work.executions == 1


async def test_a_call_of_one_replica_needs_no_lease_and_publishes_nothing() -> None:
    leases, work = FakeLeases(), Work()
    leases.leader = "other"
    work.finish.set()
    call = Singleflight(leases).do("name", work, across_replicas=False)
    assert [item async for item in call.follow()] == ITEMS
    assert (leases.waiting, leases.batches) == (0, [])


async def leave(task: asyncio.Task[list[Item]]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_work_that_nobody_keeps_ends_with_its_last_caller() -> None:
    leases, work = FakeLeases(), Work()
    leases.leader = "other"
    singleflight = Singleflight(leases)
    lone = functools.partial(collect, singleflight, work, outlives_callers=False)
    first, second = asyncio.create_task(lone()), asyncio.create_task(lone())
    await work.started.wait()
    await leave(first)
    assert not work.ended.is_set()
    await leave(second)
    later = asyncio.create_task(lone())  # not a follower of the work that is ending
    await work.ended.wait()
    work.finish.set()
    assert (await later)[-1] == {"done": {"n": 2}}
    assert (leases.waiting, leases.batches) == (0, [])


async def test_work_that_is_stored_outlives_its_callers() -> None:
    work = Work()
    singleflight = Singleflight(FakeLeases())
    caller = asyncio.create_task(collect(singleflight, work))
    await work.started.wait()
    await leave(caller)
    later = asyncio.create_task(collect(singleflight, work))
    work.finish.set()
    assert (await later)[-1] == {"done": {"n": 1}}


async def test_a_failure_is_not_served_again_while_redis_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leases, work = FakeLeases(), Work(NotFound("GONE", "It is gone."))
    singleflight = Singleflight(leases)
    work.finish.set()

    async def hang(*words: object) -> bool:
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(leases, "publish", hang)
    for count in (1, 2):
        with pytest.raises(NotFound):
            await collect(singleflight, work)
        assert work.executions == count
        leases.is_unreachable = True
    await singleflight.close()


async def test_work_that_never_ends_is_cancelled_at_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leases, work = FakeLeases(), Work()
    monkeypatch.setattr(deadlines, "LONG_DEADLINE", 0.01)
    with pytest.raises(DeadlineExceeded):
        await collect(Singleflight(leases), work)
    assert work.ended.is_set()
    assert not leases.leader
