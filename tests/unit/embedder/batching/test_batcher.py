import asyncio
import time
from types import SimpleNamespace

import pytest

from services.embedder.batching import queue
from services.embedder.batching.batcher import Batcher, Computed
from services.embedder.models.model import PreparedInput
from services.errors import DeadlineExceeded, Failure, Overloaded
from tests.fakes.models import TIMEOUT, GatedModel, number, run_ready_tasks

BATCH_TOKENS = 8192


async def compute(batcher: Batcher, *numbers: int, bulk: bool = False) -> list[float]:
    computed = await batcher.submit([number(value) for value in numbers], bulk=bulk)
    return [float(row[0]) for row in computed.vectors]


async def occupy(model: GatedModel, batcher: Batcher) -> asyncio.Task[list[float]]:
    """Let the model compute 0 until its gate is opened."""
    task = asyncio.create_task(compute(batcher, 0))
    await model.batch_started()
    return task


def open_model(workers: int = 1) -> GatedModel:
    model = GatedModel(workers)
    model.gate.set()
    return model


async def test_calls_share_a_batch_and_get_their_own_vectors() -> None:
    model = GatedModel()
    async with Batcher(model, 10_000) as batcher:
        first = await occupy(model, batcher)
        others = [asyncio.create_task(compute(batcher, n, n + 100)) for n in range(1, 20)]
        await run_ready_tasks()
        model.gate.set()
        assert await first == [0]
        assert await asyncio.gather(*others) == [[n, n + 100] for n in range(1, 20)]
    assert len(model.batches) == 2


async def test_equal_inputs_of_a_batch_are_computed_once() -> None:
    model = open_model()
    async with Batcher(model, 10_000) as batcher:
        assert await compute(batcher, 7, 7, 7) == [7, 7, 7]
    assert model.batches == [[7]]


async def test_no_inputs_need_no_batch() -> None:
    model = open_model()
    async with Batcher(model, 10_000) as batcher:
        computed = await batcher.submit([])
    assert computed.vectors.shape == (0, 1)
    assert not model.batches


async def test_a_batch_stays_within_its_budget_of_padded_tokens() -> None:
    model = open_model()
    async with Batcher(model, 10**6) as batcher:
        await batcher.submit([number(n, 100 if n % 2 else 1000) for n in range(40)])
    for batch in model.batches:
        assert len(batch) * max(100 if n % 2 else 1000 for n in batch) <= BATCH_TOKENS


async def test_an_input_that_fails_does_not_fail_its_batch() -> None:
    model = GatedModel()
    async with Batcher(model, 10_000) as batcher:
        first = await occupy(model, batcher)
        calls = [asyncio.create_task(compute(batcher, *n)) for n in ((1, 2), (-1,))]
        await run_ready_tasks()
        model.gate.set()
        good, bad = await asyncio.gather(*calls, return_exceptions=True)
        await first
    assert sorted(model.batches[1]) == [-1, 1, 2]
    assert good == [1, 2]
    assert isinstance(bad, Failure)
    assert bad.reason == "INFERENCE_FAILED"


async def test_a_full_queue_refuses_bulk_first_and_says_when_to_retry() -> None:
    model = GatedModel()
    async with Batcher(model, 100) as batcher:
        calls = [await occupy(model, batcher)]
        calls.append(asyncio.create_task(compute(batcher, *range(1, 6))))
        await run_ready_tasks()
        with pytest.raises(Overloaded) as caught:
            await compute(batcher, 6, bulk=True)
        assert caught.value.retry_after
        calls.append(asyncio.create_task(compute(batcher, 7, 8, 9, 10, 11)))
        await run_ready_tasks()
        with pytest.raises(Overloaded):
            await compute(batcher, 12)
        model.gate.set()
        await asyncio.gather(*calls)


async def test_admission_is_checked_before_inputs_are_preprocessed() -> None:
    model = GatedModel()
    async with Batcher(model, 100) as batcher:
        calls = [await occupy(model, batcher)]
        calls.append(asyncio.create_task(compute(batcher, *range(1, 6))))
        await run_ready_tasks()
        batcher.check_admission(50, bulk=False, timeout=None)
        batcher.check_admission(0, bulk=True, timeout=None)
        for inputs, bulk in ((51, False), (1, True)):
            with pytest.raises(Overloaded):
                batcher.check_admission(inputs, bulk=bulk, timeout=None)
        model.gate.set()
        await asyncio.gather(*calls)


async def test_a_call_may_have_more_tokens_than_the_queue() -> None:
    model = GatedModel()
    queue_is_full, most = asyncio.Event(), 0

    async def part(first: int) -> list[PreparedInput]:
        nonlocal most
        if first == 5:
            await model.batch_started()
        most = max(most, batcher._scheduler.queue_tokens)
        if batcher._scheduler.queue_tokens >= 100:
            queue_is_full.set()
        return [number(value) for value in range(first, first + 5)]

    async with Batcher(model, 100) as batcher:
        call: asyncio.Task[Computed] = asyncio.create_task(
            batcher.submit_parts(map(part, range(0, 100, 5)), 100)
        )
        await asyncio.wait_for(queue_is_full.wait(), TIMEOUT)
        with pytest.raises(Overloaded):
            await compute(batcher, 1000)
        model.gate.set()
        assert (await call).vectors[:, 0].tolist() == list(range(100))
    assert 100 <= most <= 150


async def test_a_part_that_fails_drops_what_its_call_has_queued() -> None:
    model = GatedModel()

    async def part(first: int) -> list[PreparedInput]:
        if first:
            raise ValueError("not decodable")
        return [number(1), number(2)]

    async with Batcher(model, 1000) as batcher:
        first = await occupy(model, batcher)
        with pytest.raises(ValueError, match="not decodable"):
            await batcher.submit_parts(map(part, (0, 2)), 4)
        model.gate.set()
        await first
    assert model.batches == [[0]]


async def test_a_call_that_would_be_late_is_refused_at_once() -> None:
    model = GatedModel()
    async with Batcher(model, 10**9) as batcher:
        calls = [await occupy(model, batcher)]
        calls.append(asyncio.create_task(compute(batcher, *range(1, 1001))))
        await run_ready_tasks()
        with pytest.raises(Overloaded) as caught:
            await batcher.submit([number(1)], timeout=1.0)
        assert caught.value.retry_after == pytest.approx(2)  # 10,000 tokens, 5,000 a second
        calls.append(asyncio.create_task(compute(batcher, 1)))
        model.gate.set()
        await asyncio.gather(*calls)


async def test_bulk_does_not_make_interactive_calls_late() -> None:
    model = GatedModel()
    async with Batcher(model, 10**9) as batcher:
        calls = [await occupy(model, batcher)]
        calls.append(asyncio.create_task(compute(batcher, *range(1, 1001), bulk=True)))
        await run_ready_tasks()
        with pytest.raises(Overloaded):
            await batcher.submit([number(1)], bulk=True, timeout=3.0)
        interactive = asyncio.create_task(batcher.submit([number(2000)], timeout=TIMEOUT))
        await run_ready_tasks()
        model.gate.set()
        assert (await interactive).vectors.tolist() == [[2000]]
        await asyncio.gather(*calls)
        assert batcher._scheduler.queue_tokens == 0


async def test_inputs_of_late_and_cancelled_calls_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = GatedModel()
    async with Batcher(model, 10_000) as batcher:
        first = await occupy(model, batcher)
        cancelled = asyncio.create_task(compute(batcher, 1))
        late = asyncio.create_task(batcher.submit([number(2)], timeout=TIMEOUT))
        await run_ready_tasks()
        cancelled.cancel()
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 2 * TIMEOUT)
        monkeypatch.setattr(queue, "time", later)
        model.gate.set()
        await first
        with pytest.raises(DeadlineExceeded):
            await late
    assert model.batches == [[0]]


async def test_interactive_goes_first_and_bulk_is_not_starved() -> None:
    model = GatedModel()

    async def submit(value: int, *, bulk: bool) -> Computed:
        return await batcher.submit([number(value, BATCH_TOKENS)], bulk=bulk)

    async with Batcher(model, 10**9) as batcher:
        first = await occupy(model, batcher)
        calls = [asyncio.create_task(submit(1000 + n, bulk=True)) for n in range(4)]
        calls += [asyncio.create_task(submit(n, bulk=False)) for n in range(1, 9)]
        await run_ready_tasks()
        model.gate.set()
        await asyncio.gather(first, *calls)
    order = [batch[0] for batch in model.batches[1:]]
    assert order[:4] == [1, 2, 3, 1000]
    assert order.index(1001) < order.index(8)


async def test_workers_compute_at_the_same_time() -> None:
    model = GatedModel(workers=2)
    async with Batcher(model, 10_000) as batcher:
        calls = []
        for value in (1, 2):
            calls.append(asyncio.create_task(compute(batcher, value)))
            await model.batch_started()
        model.gate.set()
        assert await asyncio.gather(*calls) == [[1], [2]]
    assert sorted(model.batches) == [[1], [2]]
