"""Coalesces the requests that wait while a call is under way into the batch of the next call.

A small document has a chunk or two, so that calls of its own would cost more than their work.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.errors import Aborted, Overloaded, Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")
# Failures of the service rather than of a request: every request of the batch fails with them.
_SERVICE_FAILURES = (Aborted, Overloaded, Unavailable)


@dataclass
class _Request(Generic[Item, Result]):
    items: Sequence[Item]
    results: "asyncio.Future[list[Result]]"


class CoalescingBatcher(Generic[Item, Result]):
    """Processes items in batches that concurrent callers share.

    If a batch fails because of one request, only that request fails: the others are tried again
    one by one.

    Args:
        call: processes a batch; returns one result for each item, in their order.
        max_weight: maximum weight of a batch; a single request may weigh more.
        max_concurrent: how many calls may be under way.
        weigh: returns the weight of an item; by default each weighs 1.
    """

    def __init__(
        self,
        call: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        max_weight: int,
        max_concurrent: int,
        weigh: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        self._call, self._max_weight, self._weigh = call, max_weight, weigh
        self._idle_workers = max_concurrent
        self._waiting: deque[_Request[Item, Result]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """Return the results of items, in their order."""
        if not items:
            return []
        request = _Request[Item, Result](items, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._idle_workers:
            self._idle_workers -= 1
            task = asyncio.create_task(self._work())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await request.results

    def close(self) -> None:
        """Cancel the calls that are under way; call it when nobody waits for them."""
        for task in self._running:
            task.cancel()

    async def _work(self) -> None:
        try:
            while batch := self._next_batch():
                await self._process(batch)
        finally:
            self._idle_workers += 1

    def _next_batch(self) -> list[_Request[Item, Result]]:
        batch: list[_Request[Item, Result]] = []
        weight = 0
        while self._waiting:
            request = self._waiting[0]
            weight += sum(map(self._weigh, request.items))
            if batch and weight > self._max_weight:
                break
            self._waiting.popleft()
            if not request.results.done():  # done: its caller was cancelled
                batch.append(request)
        return batch

    async def _process(self, batch: Sequence[_Request[Item, Result]]) -> None:
        try:
            results = iter(await self._call([item for one in batch for item in one.items]))
        except Exception as error:
            shared = len(batch) == 1 or isinstance(error, _SERVICE_FAILURES)
            for request in batch:
                if not shared:
                    await self._process([request])
                elif not request.results.done():
                    request.results.set_exception(error)
            return
        for request in batch:
            own = [next(results) for _ in request.items]
            if not request.results.done():
                request.results.set_result(own)
