import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from services.embedder.batching.queue import Entry, Job
from services.embedder.batching.scheduler import Batch, Schedule
from services.embedder.models.model import ModelInfo, PreparedInput

KINDS = frozenset({"text"})


def schedule(batch_tokens: int, lanes: int) -> Schedule:
    info = ModelInfo("m", KINDS, 1, 9, "none", "cpu", "float32", "d", lanes, batch_tokens)
    return Schedule(info, 10**9)


def add(queue: Schedule, number: int, cost: int, *, bulk: bool = False) -> None:
    job = Job(np.empty((1, 1), np.float32), 1, asyncio.Future(), float("inf"))
    queue.add([Entry(job, 0, PreparedInput(number, cost, cost, False, number))], bulk=bulk)


def numbers(batch: Batch) -> list[int]:
    return [entry.item.payload for entry in batch.entries]


async def test_bulk_leaves_a_lane_to_interactive_inputs_while_they_come() -> None:
    queue = schedule(8192, lanes=2)  # a batch takes 1.6 s, as nothing was measured yet
    add(queue, 0, 10)
    assert numbers(queue.next()) == [0]
    for number in (1, 2, 3):
        add(queue, number, 8192, bulk=True)
    bulk = queue.next()
    assert numbers(bulk) == [1]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.next)
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        add(queue, 4, 10)
        assert numbers(waiting.result(1)) == [4]
    queue.done(bulk, 1.6)
    assert numbers(queue.next()) == [2]


async def test_bulk_takes_all_lanes_soon_after_the_last_interactive_input() -> None:
    queue = schedule(500, lanes=2)  # a batch takes 0.1 s
    add(queue, 0, 10)
    queue.next()
    for number in (1, 2):
        add(queue, number, 500, bulk=True)
    assert [numbers(queue.next()), numbers(queue.next())] == [[1], [2]]
