import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from services.embedder.batching.batcher import Batcher
from services.embedder.models.model import Content, ModelInfo, PreparedInput, Tokens
from services.errors import DeadlineExceeded, Failure, Overloaded

BATCH_TOKENS = 8192


class Echo:
    """A model whose vector is its input; it waits for ``gate`` and fails on what is below zero."""

    def __init__(self, lanes: int = 1) -> None:
        kinds = frozenset({"text"})
        self.info = ModelInfo(
            "echo", kinds, 1, 9, "none", "cpu", "float32", "d", lanes, BATCH_TOKENS
        )
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.running = 0

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        raise NotImplementedError

    def tokenize(self, text: str) -> Tokens:
        raise NotImplementedError

    def encode(self, batch: Sequence[PreparedInput]) -> NDArray[np.float32]:
        self.running += 1
        self.gate.wait(5)
        numbers = [item.payload for item in batch]
        self.batches.append(numbers)
        if min(numbers) < 0:
            raise ValueError("below zero")
        return np.array(numbers, np.float32)[:, None]


def item(number: int, cost: int = 10) -> PreparedInput:
    return PreparedInput(number, cost, cost, False, number)


async def ask(batcher: Batcher, *numbers: int, bulk: bool = False) -> list[float]:
    computed = await batcher.submit([item(number) for number in numbers], bulk=bulk)
    return [float(row[0]) for row in computed.rows]


async def test_callers_share_batches_and_get_their_own_rows() -> None:
    model = Echo()
    async with Batcher(model, 10_000) as batcher:
        model.gate.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(ask(batcher, n, n + 100)) for n in range(1, 20)]
        await asyncio.sleep(0.05)
        model.gate.set()
        assert await first == [0]
        assert await asyncio.gather(*others) == [[n, n + 100] for n in range(1, 20)]
    assert len(model.batches) == 2


async def test_the_same_input_is_computed_once() -> None:
    model = Echo()
    async with Batcher(model, 10_000) as batcher:
        assert await ask(batcher, 7, 7, 7) == [7, 7, 7]
    assert model.batches == [[7]]


async def test_a_batch_keeps_to_its_budget_of_padded_tokens() -> None:
    model = Echo()
    async with Batcher(model, 10**6) as batcher:
        items = [item(n, 100 if n % 2 else 1000) for n in range(40)]
        await batcher.submit(items)
    for batch in model.batches:
        assert len(batch) * max(100 if n % 2 else 1000 for n in batch) <= BATCH_TOKENS


async def test_what_fails_fails_alone() -> None:
    model = Echo()
    async with Batcher(model, 10_000) as batcher:
        good, bad = await asyncio.gather(
            ask(batcher, 1, 2), ask(batcher, -1), return_exceptions=True
        )
    assert good == [1, 2]
    assert isinstance(bad, Failure)
    assert bad.reason == "INFERENCE_FAILED"


async def test_a_full_queue_refuses_with_a_hint_bulk_first() -> None:
    model = Echo()
    async with Batcher(model, 100) as batcher:
        model.gate.clear()
        running = [asyncio.create_task(ask(batcher, 0))]
        await asyncio.sleep(0.05)
        running.append(asyncio.create_task(ask(batcher, *range(1, 6))))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await ask(batcher, 6, bulk=True)
        assert caught.value.retry_after
        running.append(asyncio.create_task(ask(batcher, 7, 8, 9, 10, 11)))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await ask(batcher, 12)
        model.gate.set()
        await asyncio.gather(*running)


async def test_a_call_may_have_more_tokens_than_the_queue() -> None:
    model = Echo()
    most = 0

    async def part(first: int) -> list[PreparedInput]:
        nonlocal most
        most = max(most, batcher._schedule.tokens)
        return [item(number) for number in range(first, first + 5)]

    async with Batcher(model, 100) as batcher:
        model.gate.clear()
        call = batcher.submit_parts(map(part, range(0, 100, 5)), 100)
        computing = asyncio.create_task(call)
        await asyncio.sleep(0.1)
        with pytest.raises(Overloaded):
            await ask(batcher, 1000)
        model.gate.set()
        assert (await computing).rows[:, 0].tolist() == list(range(100))
    assert 50 <= most <= 150


async def test_what_would_be_late_is_refused_at_the_door() -> None:
    model = Echo()
    async with Batcher(model, 10**9) as batcher:
        model.gate.clear()
        running = [asyncio.create_task(ask(batcher, 0))]
        await asyncio.sleep(0.05)
        running.append(asyncio.create_task(ask(batcher, *range(1, 1001))))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await batcher.submit([item(1)], within=1.0)
        assert caught.value.retry_after == pytest.approx(2, rel=0.1)
        running.append(asyncio.create_task(ask(batcher, 1)))
        model.gate.set()
        await asyncio.gather(*running)


async def test_bulk_does_not_make_interactive_calls_late() -> None:
    model = Echo()
    async with Batcher(model, 10**9) as batcher:
        model.gate.clear()
        running = [asyncio.create_task(ask(batcher, 0))]
        await asyncio.sleep(0.05)
        running.append(asyncio.create_task(ask(batcher, *range(1, 1001), bulk=True)))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await batcher.submit([item(1)], bulk=True, within=1.0)
        quick = asyncio.create_task(batcher.submit([item(2000)], within=1.0))
        await asyncio.sleep(0)
        model.gate.set()
        assert (await quick).rows.tolist() == [[2000]]
        await asyncio.gather(*running)
        assert batcher._schedule.tokens == 0


async def test_the_late_and_the_gone_are_dropped() -> None:
    model = Echo()
    async with Batcher(model, 10_000) as batcher:
        model.gate.clear()
        first = asyncio.create_task(ask(batcher, 0))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(ask(batcher, 1))
        late = asyncio.create_task(batcher.submit([item(2)], within=0.01))
        await asyncio.sleep(0.05)
        gone.cancel()
        model.gate.set()
        await first
        with pytest.raises(DeadlineExceeded):
            await late
    assert model.batches == [[0]]


async def test_interactive_goes_first_and_bulk_is_not_starved() -> None:
    model = Echo()
    big = BATCH_TOKENS
    async with Batcher(model, 10**9) as batcher:
        model.gate.clear()
        tasks = [asyncio.create_task(ask(batcher, 0))]
        await asyncio.sleep(0.05)
        tasks += [
            asyncio.create_task(batcher.submit([item(1000 + n, big)], bulk=True))  # type: ignore[arg-type]
            for n in range(4)
        ]
        tasks += [
            asyncio.create_task(batcher.submit([item(n, big)]))  # type: ignore[arg-type]
            for n in range(1, 9)
        ]
        await asyncio.sleep(0.05)
        model.gate.set()
        await asyncio.gather(*tasks)
    order = [batch[0] for batch in model.batches[1:]]
    assert order[:4] == [1, 2, 3, 1000]
    assert order.index(1001) < order.index(8)


async def test_free_lanes_share_what_waits() -> None:
    model = Echo(lanes=2)
    async with Batcher(model, 10_000) as batcher:
        await asyncio.sleep(0.05)  # both threads wait now
        model.gate.clear()
        asking = asyncio.create_task(ask(batcher, *range(20)))
        await asyncio.sleep(0.05)
        model.gate.set()
        assert await asking == list(range(20))
    assert sorted(map(len, model.batches)) == [10, 10]


async def test_lanes_compute_at_once() -> None:
    model = Echo(lanes=2)
    model.gate.clear()
    async with Batcher(model, 10_000) as batcher:
        asking = []
        for number in (1, 2):
            asking.append(asyncio.create_task(ask(batcher, number)))
            await asyncio.sleep(0.05)
        assert model.running == 2
        model.gate.set()
        assert await asyncio.gather(*asking) == [[1], [2]]
    assert sorted(model.batches) == [[1], [2]]
