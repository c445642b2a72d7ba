import asyncio
import time

import numpy as np
import pytest

from services.embedder.batching.queue import Entry, Job, LengthBucketQueue
from services.errors import DeadlineExceeded
from tests.fakes.models import number, run_ready_tasks


def job(deadline: float = float("inf")) -> Job:
    return Job(np.empty((1, 1), np.float32), 1, asyncio.Future(), deadline)


def queue(*costs: int) -> LengthBucketQueue:
    """A queue of inputs that are numbered in the order of their arrival."""
    filled = LengthBucketQueue()
    for value, cost in enumerate(costs):
        filled.put(Entry(job(), 0, number(value, cost), float(value)))
    return filled


def take(filled: LengthBucketQueue, max_inputs: int = 100, max_tokens: int = 10**6) -> list[int]:
    return [entry.item.payload for entry in filled.take(max_inputs, max_tokens)]


async def test_the_oldest_comes_first_then_those_most_like_it_in_length() -> None:
    assert take(queue(100, 1, 101, 140, 60)) == [0, 2, 3, 4, 1]


async def test_inputs_of_like_length_keep_their_order() -> None:
    assert take(queue(10, 11, 8, 10, 9)) == [0, 1, 2, 3, 4]


async def test_a_batch_has_so_many_inputs_and_padded_tokens_at_most() -> None:
    assert take(queue(10, 10, 10), max_inputs=2) == [0, 1]
    assert take(queue(10, 10, 10), max_tokens=29) == [0, 1]
    # 100 tokens would pad the two short inputs to 300 tokens in all.
    assert take(queue(10, 10, 100), max_tokens=299) == [0, 1]
    assert take(queue(10, 10, 100), max_tokens=300) == [0, 1, 2]


async def test_a_single_input_may_exceed_the_budget() -> None:
    assert take(queue(1000, 10), max_tokens=100) == [0]


async def test_what_is_queued_is_counted() -> None:
    filled = queue(10, 20, 30)
    assert (filled.tokens, filled.inputs, filled.oldest_enqueued_at) == (60, 3, 0.0)
    take(filled, max_inputs=1)
    assert (filled.tokens, filled.inputs, filled.oldest_enqueued_at) == (50, 2, 1.0)
    take(filled)
    assert (filled.tokens, filled.inputs, filled.oldest_enqueued_at) == (0, 0, float("inf"))
    assert take(filled) == []


async def test_inputs_of_finished_jobs_are_dropped() -> None:
    filled, over = LengthBucketQueue(), job()
    for value, owner in enumerate([over, job(), over, job(), over]):
        filled.put(Entry(owner, 0, number(value)))
    over.done.cancel()
    assert take(filled) == [1, 3]
    assert (filled.tokens, filled.inputs) == (0, 0)


async def test_a_job_past_its_deadline_fails() -> None:
    filled, late = LengthBucketQueue(), job(deadline=time.monotonic() - 1)
    filled.put(Entry(late, 0, number(1)))
    assert take(filled) == []
    await run_ready_tasks()
    with pytest.raises(DeadlineExceeded):
        late.done.result()


async def test_a_job_that_is_done_does_not_fail_afterwards() -> None:
    late = job(deadline=0.0)
    assert late.is_over(1.0)
    late.done.set_result(None)
    await run_ready_tasks()
    assert late.done.result() is None
