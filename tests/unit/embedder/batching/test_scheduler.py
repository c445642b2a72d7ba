import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from services.embedder.batching.queue import Entry, Job
from services.embedder.batching.scheduler import EMPTY_BATCH, Batch, Scheduler
from services.errors import Overloaded
from tests.fakes.models import TIMEOUT, model_info, number, wait_until

HUGE = 10**9  # a batch with this many tokens takes days at the assumed speed


def scheduler(
    batch_tokens: int = HUGE, workers: int = 1, max_queue_tokens: int = 10**12
) -> Scheduler:
    return Scheduler(
        model_info("text", workers=workers, batch_tokens=batch_tokens), max_queue_tokens
    )


def entries(*values: int, cost: int = 10, enqueued_at: float | None = None) -> list[Entry]:
    job = Job(np.empty((1, 1), np.float32), 1, asyncio.Future(), float("inf"))
    now = time.monotonic() if enqueued_at is None else enqueued_at
    return [Entry(job, 0, number(value, cost), now) for value in values]


def values(batch: Batch) -> list[int]:
    return [entry.item.payload for entry in batch.entries]


async def test_bulk_leaves_a_worker_to_interactive_inputs_while_they_come() -> None:
    one = scheduler(workers=2)
    one.put(entries(0), bulk=False)
    assert values(one.next_batch()) == [0]
    for value in (1, 2, 3):
        one.put(entries(value, cost=HUGE), bulk=True)
    bulk = one.next_batch()
    assert (values(bulk), bulk.bulk) == ([1], True)
    one.close()  # a closed scheduler does not wait
    assert one.next_batch() == EMPTY_BATCH
    one.put(entries(4), bulk=False)
    assert values(one.next_batch()) == [4]
    one.record_batch(bulk, 1.6)
    assert values(one.next_batch()) == [2]


async def test_bulk_takes_all_workers_soon_after_the_last_interactive_input() -> None:
    one = scheduler(batch_tokens=5, workers=2)  # a batch takes 1 ms
    one.put(entries(0), bulk=False)
    one.next_batch()
    for value in (1, 2):
        one.put(entries(value, cost=5), bulk=True)
    assert [values(one.next_batch()), values(one.next_batch())] == [[1], [2]]


async def test_one_batch_in_four_is_bulk_while_both_are_queued() -> None:
    one = scheduler(batch_tokens=10)
    one.put(entries(*range(8)), bulk=False)
    one.put(entries(*range(100, 108)), bulk=True)
    kinds = [one.next_batch().bulk for _ in range(8)]
    assert kinds == [False, False, False, True] * 2


async def test_a_single_idle_worker_leaves_inputs_to_the_others() -> None:
    one = scheduler(workers=2)
    one.put(entries(*range(100)), bulk=False)
    assert [len(one.next_batch().entries) for _ in range(3)] == [50, 25, 16]


async def test_idle_workers_share_the_queue() -> None:
    one = scheduler(workers=2)
    with ThreadPoolExecutor(2) as pool:
        batches = [pool.submit(one.next_batch) for _ in range(2)]
        await wait_until(lambda: one._idle_workers == 2)
        one.put(entries(*range(20)), bulk=False)
        assert [len(batch.result(TIMEOUT).entries) for batch in batches] == [10, 10]


async def test_close_wakes_workers_that_wait() -> None:
    one = scheduler()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.next_batch)
        one.close()
        assert waiting.result(TIMEOUT) == EMPTY_BATCH


async def test_a_closed_scheduler_empties_its_queue_first() -> None:
    one = scheduler()
    one.put(entries(1), bulk=False)
    one.close()
    assert [values(one.next_batch()), values(one.next_batch())] == [[1], []]


async def test_an_empty_queue_admits_any_call() -> None:
    scheduler(max_queue_tokens=10).check_admission(1000, bulk=True, timeout=0.001)


@pytest.mark.parametrize(
    ("queued", "tokens", "bulk", "admitted"),
    [(60, 40, False, True), (60, 41, False, False), (40, 10, True, True), (40, 11, True, False)],
)
async def test_bulk_may_fill_half_of_the_queue(
    queued: int, tokens: int, bulk: bool, admitted: bool
) -> None:
    one = scheduler(max_queue_tokens=100)
    one.put(entries(1, cost=queued), bulk=False)
    assert one.is_full(bulk=bulk) == (queued >= (50 if bulk else 100))
    if admitted:
        one.check_admission(tokens, bulk=bulk, timeout=None)
        return
    with pytest.raises(Overloaded) as refused:
        one.check_admission(tokens, bulk=bulk, timeout=None)
    assert refused.value.reason == "QUEUE_FULL"
    assert refused.value.retry_after == 0.05
    assert refused.value.metadata["queue_tokens"] == str(queued)


async def test_the_speed_of_batches_decides_what_would_be_late() -> None:
    one = scheduler(workers=2)
    one.put(entries(1, cost=10_000), bulk=False)  # 1 s for two workers at 5,000 a second
    one.check_admission(1, bulk=False, timeout=2.1)
    with pytest.raises(Overloaded):
        one.check_admission(1, bulk=False, timeout=1.9)
    for _ in range(50):  # 50,000 tokens per second
        one.record_batch(Batch(entries(0, cost=50_000), bulk=False), 1.0)
    one.check_admission(1, bulk=False, timeout=0.25)
    with pytest.raises(Overloaded) as refused:
        one.check_admission(1, bulk=False, timeout=0.15)
    assert refused.value.retry_after == pytest.approx(0.1, rel=0.01)


async def test_the_age_is_that_of_the_oldest_input() -> None:
    one = scheduler()
    assert one.queue_age() == 0
    one.put(entries(1), bulk=False)
    one.put(entries(2, enqueued_at=time.monotonic() - 1000), bulk=True)
    assert one.queue_age() >= 1000
