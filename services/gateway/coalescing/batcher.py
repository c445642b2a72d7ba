"""Combines requests that arrive during a call into one batch for the next call.

A single caller waits for one call. Concurrent callers share the cost of each call, and no caller
waits for a timer.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services import deadlines
from services.errors import Aborted, DeadlineExceeded, Overloaded, Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")
# No item causes these failures, so they end the whole batch.
_BATCH_FAILURES = (Aborted, DeadlineExceeded, Overloaded, Unavailable)


@dataclass
class _Request(Generic[Item, Result]):
    items: Sequence[Item]
    results: "asyncio.Future[list[Result]]"


class CoalescingBatcher(Generic[Item, Result]):
    """Sends the items of concurrent callers in shared batches and returns one result per item.

    Args:
        call: sends one batch and returns one result per item, in order.
        max_weight: largest total weight of a batch. A single request may exceed it.
        max_concurrent: largest number of concurrent calls.
        weigh: returns the weight of an item. Every item weighs 1 by default.
        isolate_failures: whether an item can cause a failure. The batcher then sends the requests
            of a failed batch one by one, and a bad item fails only its own caller.

    Aborted, DeadlineExceeded, Overloaded and Unavailable always fail every request of a batch.
    """

    def __init__(
        self,
        call: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        max_weight: int,
        max_concurrent: int,
        weigh: Callable[[Item], int] = lambda _: 1,
        *,
        isolate_failures: bool = True,
    ) -> None:
        self._isolate_failures = isolate_failures
        self._call, self._max_weight, self._weigh = call, max_weight, weigh
        self._idle = max_concurrent
        self._queue: deque[_Request[Item, Result]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """Return the results of ``items``, in their order."""
        if not items:
            return []
        request = _Request[Item, Result](items, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        if self._idle:
            self._idle -= 1
            # The context is empty, because a batch has no single caller's deadline.
            task = asyncio.create_task(self._run(), context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await request.results

    def close(self) -> None:
        """Cancel the calls in progress and all waiting requests."""
        for task in self._tasks:
            task.cancel()
        for request in self._queue:
            request.results.cancel()

    async def _run(self) -> None:
        """Send batches until the queue is empty."""
        try:
            while batch := self._next_batch():
                await self._send(batch)
        finally:
            self._idle += 1

    def _next_batch(self) -> list[_Request[Item, Result]]:
        batch: list[_Request[Item, Result]] = []
        weight = 0
        while self._queue:
            request = self._queue[0]
            weight += sum(map(self._weigh, request.items))
            if batch and weight > self._max_weight:
                break
            self._queue.popleft()
            if not request.results.done():  # the caller is still waiting
                batch.append(request)
        return batch

    async def _send(self, batch: Sequence[_Request[Item, Result]]) -> None:
        try:
            with deadlines.limit(deadlines.LONG_DEADLINE):
                results = iter(await self._call([one for each in batch for one in each.items]))
        except asyncio.CancelledError:
            for request in batch:
                request.results.cancel()
            raise
        except Exception as error:
            isolates = self._isolate_failures and not isinstance(error, _BATCH_FAILURES)
            for request in batch:
                if isolates and len(batch) > 1:
                    await self._send([request])
                elif not request.results.done():
                    request.results.set_exception(error)
            return
        for request in batch:
            own = [next(results) for _ in request.items]
            if not request.results.done():
                request.results.set_result(own)
