"""One call for many: concurrent callers of the same, on all replicas, share what one of them does.

In a process, callers share a ``Flight``. Across processes, the one that has the lease does the work
and says in Redis what comes of it; the others repeat that. A leader that dies loses its lease, and
one of those that wait takes over. Without Redis every process does its own work.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from redis.exceptions import RedisError

from services import deadlines
from services.errors import KINDS, Aborted, Failure
from services.gateway.coalescing.leases import Leases
from services.gateway.llm.client import Refused

log = logging.getLogger(__name__)

Item = dict[str, Any]
Work = Callable[[], AsyncIterator[Item]]
POLL = 0.05


class Flight:
    """What came of a piece of work so far; ends with an item ``done``, or with a failure."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._failure: BaseException | None = None
        self._ended = False
        self._changed = asyncio.Event()

    def add(self, item: Item) -> None:
        """Append an item for all who follow."""
        self.items.append(item)
        self._ended = "done" in item
        self._wake()

    def end(self, failure: BaseException | None = None) -> None:
        """End, unless it has ended."""
        if not self._ended:
            self._ended, self._failure = True, failure
            self._wake()

    async def follow(self) -> AsyncIterator[Item]:
        """Yield all items from the first on; raises what the work raised."""
        place = 0
        while True:
            changed = self._changed
            while place < len(self.items):
                yield self.items[place]
                place += 1
            if self._ended:
                break
            await changed.wait()
        if self._failure:
            raise self._failure

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Singleflight:
    """Pieces of work under way, by name."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._open: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def do(self, name: str, work: Work) -> Flight:
        """Follow the work of this name, or begin it.

        ``work`` yields items, the last of which has ``done``; it goes on after that if it has more
        to do before another may begin.
        """
        flight = self._open.get(name)
        if flight is None:
            flight = self._open[name] = Flight()
            task = asyncio.create_task(self._run(name, flight, work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return flight

    async def close(self) -> None:
        """Stop all work; others take it over."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, name: str, flight: Flight, work: Work) -> None:
        try:
            with deadlines.within(deadlines.LONG_DEADLINE):
                await self._lead_or_repeat(name, flight, work)
            flight.end(_lost())
        except asyncio.CancelledError:
            flight.end(_lost())
            raise
        except Exception as error:
            if not isinstance(error, Failure):
                log.exception("a flight failed")
            flight.end(error)
        finally:
            self._open.pop(name, None)

    async def _lead_or_repeat(self, name: str, flight: Flight, work: Work) -> None:
        while True:
            try:
                token = await self._leases.lead(name)
                if not token:
                    if await self._repeat(name, flight):
                        return
                    continue
            except RedisError:
                if flight.items:
                    raise _lost() from None
                token = ""
            await self._lead(name, token, flight, work)
            return

    async def _lead(self, name: str, token: str, flight: Flight, work: Work) -> None:
        renewing = asyncio.create_task(self._renew(name, token))
        try:
            async for item in work():
                flight.add(item)
                await self._say(name, token, item)
        except Failure as failure:
            await self._say(name, token, {"failure": _told(failure)})
            raise
        finally:
            renewing.cancel()
            if token:
                with contextlib.suppress(RedisError):
                    await asyncio.shield(self._leases.release(name, token))

    async def _say(self, name: str, token: str, item: Item) -> None:
        if token:
            with contextlib.suppress(RedisError):
                await self._leases.say(name, token, item)

    async def _renew(self, name: str, token: str) -> None:
        while token:
            await asyncio.sleep(self._leases.seconds / 3)
            with contextlib.suppress(RedisError):
                await self._leases.renew(name, token)

    async def _repeat(self, name: str, flight: Flight) -> bool:
        """Repeat what the leader says; return False if it is gone and nothing was said."""
        place, token = "-", ""
        while True:
            said = await self._leases.read(name, place)
            place = said.place
            for speaker, item in said.items:
                if token and speaker != token:
                    raise _lost()
                token = speaker
                if "failure" in item:
                    raise _failure(item["failure"])
                flight.add(item)
                if "done" in item:
                    return True
            if said.leader != (token or said.leader) or not said.leader:
                if flight.items:
                    raise _lost()
                return False
            await asyncio.sleep(POLL)


def _lost() -> Aborted:
    return Aborted(
        "LEADER_LOST", "The replica that wrote this answer is gone; ask again.", retry_after=0.1
    )


def _told(failure: Failure) -> Item:
    """Return a failure as plain data, for other replicas."""
    return {
        "code": failure.code.name,
        "reason": failure.reason,
        "message": failure.message,
        "retry_after": failure.retry_after,
        "metadata": failure.metadata,
        "status": getattr(failure, "status", 0),
        "body": getattr(failure, "body", b"").decode(errors="replace"),
    }


def _failure(told: Item) -> Failure:

    if told["status"]:
        refused = Refused(told["status"], told["body"].encode())
        refused.retry_after = told["retry_after"]
        return refused
    kind = next((one for one in KINDS if one.code.name == told["code"]), Failure)
    failure = kind(told["reason"], told["message"], retry_after=told["retry_after"])
    failure.metadata = told["metadata"]
    return failure
