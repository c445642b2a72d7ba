"""Trips to the other services that the documents in work share.

A small document has a chunk or two, and trips of its own would cost more than they carry. So what
is asked while trips are under way waits, and goes along in the next one.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.errors import Aborted, Overloaded, Unavailable

Asked = TypeVar("Asked")
Told = TypeVar("Told")
_OF_ALL = (Aborted, Overloaded, Unavailable)


@dataclass
class _Waiting(Generic[Asked, Told]):
    items: Sequence[Asked]
    told: "asyncio.Future[list[Told]]"


class CoalescingBatcher(Generic[Asked, Told]):
    """RagService items, one result each, in trips that callers share.

    ``call`` makes a trip. At most ``at_once`` are under way; each carries items that ``weigh`` no
    more than ``most`` in all, unless one caller alone has more. A failure that is one caller's own
    is no other's.
    """

    def __init__(
        self,
        call: Callable[[list[Asked]], Awaitable[Sequence[Told]]],
        most: int,
        at_once: int,
        weigh: Callable[[Asked], int] = lambda _: 1,
    ) -> None:
        self._call, self._most, self._free, self._weigh = call, most, at_once, weigh
        self._waiting: deque[_Waiting[Asked, Told]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def ask(self, items: Sequence[Asked]) -> list[Told]:
        """Return the results of items, in their order."""
        if not items:
            return []
        one = _Waiting[Asked, Told](items, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await one.told

    def close(self) -> None:
        """End the trips that are under way; nobody waits for them."""
        for task in self._running:
            task.cancel()

    async def _run(self) -> None:
        """Make trips until nothing waits."""
        try:
            while together := self._next():
                await self._trip(together)
        finally:
            self._free += 1

    def _next(self) -> list[_Waiting[Asked, Told]]:
        together: list[_Waiting[Asked, Told]] = []
        size = 0
        while self._waiting:
            first = self._waiting[0]
            size += sum(map(self._weigh, first.items))
            if together and size > self._most:
                break
            self._waiting.popleft()
            if not first.told.done():  # else its caller has gone
                together.append(first)
        return together

    async def _trip(self, together: Sequence[_Waiting[Asked, Told]]) -> None:
        try:
            told = iter(await self._call([item for one in together for item in one.items]))
        except Exception as error:
            of_all = len(together) == 1 or isinstance(error, _OF_ALL)
            for one in together:
                if not of_all:
                    await self._trip([one])
                elif not one.told.done():
                    one.told.set_exception(error)
            return
        for one in together:
            mine = [next(told) for _ in one.items]
            if not one.told.done():
                one.told.set_result(mine)


class Known(Generic[Told]):
    """What a trip has told, believed for a second."""

    def __init__(self) -> None:
        self._told: list[Told] = []
        self._until = 0.0
        self._turn = asyncio.Lock()

    def forget(self) -> None:
        """Believe nothing any more."""
        self._told = []

    async def ask(self, trip: Callable[[], Awaitable[Told]]) -> Told:
        """Return what was told, by this trip if it is too long ago."""
        async with self._turn:
            if not self._told or time.monotonic() > self._until:
                self._told = [await trip()]
                self._until = time.monotonic() + 1.0
            return self._told[0]
