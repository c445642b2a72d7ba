"""Singleflight: concurrent callers of the same work, on all replicas, share one execution.

It works like golang.org/x/sync/singleflight, but for work that yields items, and across processes.
In a process, callers share a ``SharedCall``. Across processes, the replica that holds the lease is
the leader: it does the work and publishes the items to Redis. The other replicas are followers and
replay the published items. A leader that dies loses its lease, and a follower takes over. A
follower gets every item or an error. Without Redis every process does its own work.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from redis.exceptions import RedisError

from services import deadlines, error_details
from services.errors import Aborted, Failure
from services.gateway.coalescing.leases import STREAM_START, Batch, LeaseStore, Published
from services.gateway.coalescing.publisher import Publisher

log = logging.getLogger(__name__)

Item = dict[str, Any]
Work = Callable[[], AsyncGenerator[Item]]
POLL_SECONDS = 0.05
# A follower fails after this many failed reads in a row.
READ_ATTEMPTS = 3
# Callers get a failure once the lease is released, so that a retry does not replay it. If Redis is
# silent, they wait for only this many seconds.
FAILURE_WAIT = 0.2


class SharedCall:
    """One execution of some work: its items so far. An item ``done`` or an error ends it.

    Attributes:
        on_abandoned: called when the last caller leaves before the end.
    """

    def __init__(self) -> None:
        self.on_abandoned: Callable[[], None] | None = None
        self._followers = 0
        self._items: list[Item] = []
        self._error: BaseException | None = None
        self._ended = False
        self._changed = asyncio.Event()

    @property
    def has_items(self) -> bool:
        """Return whether the call has items, which its callers may have received."""
        return bool(self._items)

    @property
    def has_failed(self) -> bool:
        """Return whether an error has ended the call."""
        return self._error is not None

    def add(self, item: Item) -> None:
        """Append an item for all callers."""
        self._items.append(item)
        self._ended = "done" in item
        self._wake()

    def end(self, error: BaseException) -> None:
        """End with an error, unless the call has ended."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    async def follow(self) -> AsyncGenerator[Item]:
        """Yield all items, beginning with the first. Raises the error that ends the call."""
        self._followers += 1
        try:
            async for item in self._read():
                yield item
        finally:
            self._followers -= 1
            if self.on_abandoned and not self._followers and not self._ended:
                self.on_abandoned()

    async def _read(self) -> AsyncIterator[Item]:
        index = 0
        while True:
            changed = self._changed
            while index < len(self._items):
                yield self._items[index]
                index += 1
            if self._ended:
                break
            await changed.wait()
        if self._error:
            raise self._error

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Singleflight:
    """The shared calls of this process, by name."""

    def __init__(self, leases: LeaseStore) -> None:
        self._leases = leases
        self._calls: dict[str, SharedCall] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def do(
        self,
        name: str,
        work: Work,
        *,
        across_replicas: bool = True,
        outlives_callers: bool = True,
    ) -> SharedCall:
        """Return the call of this name. Start it if there is none, or if it has failed.

        Args:
            name: identifies the work.
            work: yields items, the last of which has ``done``. It may continue after that. Until it
                returns, nobody else starts work with this name.
            across_replicas: whether other replicas share the call. If not, no item is published.
            outlives_callers: whether the work continues without callers, because it stores its
                result. If not, it is cancelled when the last caller leaves, and no other replica
                shares the call.
        """
        across_replicas = across_replicas and outlives_callers
        call = self._calls.get(name)
        if call is None or call.has_failed:
            call = self._calls[name] = SharedCall()
            task = asyncio.create_task(self._run(name, call, work, across_replicas))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if not outlives_callers:
                call.on_abandoned = functools.partial(self._abandon, name, call, task)
        return call

    def _abandon(self, name: str, call: SharedCall, task: asyncio.Task[None]) -> None:
        """Cancel work without callers. A later caller starts anew."""
        if self._calls.get(name) is call:
            del self._calls[name]
        task.cancel()

    async def close(self) -> None:
        """Cancel all work. Other replicas take it over."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, name: str, call: SharedCall, work: Work, across_replicas: bool) -> None:
        try:
            with deadlines.limit(deadlines.LONG_DEADLINE):
                async with asyncio.timeout(deadlines.LONG_DEADLINE):
                    if across_replicas:
                        await self._lead_or_replay(name, call, work)
                    else:
                        await _execute(call, work)
            call.end(_leader_lost())
        except TimeoutError:
            call.end(deadlines.exceeded())
        except asyncio.CancelledError:
            call.end(_leader_lost())
            raise
        except Exception as error:
            if not isinstance(error, Failure):
                log.exception("shared work failed")
            call.end(error)
        finally:
            if self._calls.get(name) is call:
                del self._calls[name]

    async def _lead_or_replay(self, name: str, call: SharedCall, work: Work) -> None:
        """Do the work as the leader, or replay the items of the leader on another replica."""
        try:
            while not (token := await self._leases.acquire(name)):
                if await self._replay(name, call):
                    return
        except (RedisError, _ItemsLost):
            if call.has_items:
                raise _leader_lost() from None
            await _execute(call, work)
        else:
            await self._lead(Publisher(self._leases, name, token), call, work)

    async def _lead(self, publisher: Publisher, call: SharedCall, work: Work) -> None:
        """Do the work and publish its items."""
        try:
            await _execute(call, work, publisher)
        except asyncio.CancelledError:
            await asyncio.shield(publisher.close(publish_rest=False))
            raise
        except Failure as failure:
            publisher.add({"failure": error_details.to_dict(failure)})
            closing = asyncio.create_task(publisher.close())
            await asyncio.wait([closing], timeout=FAILURE_WAIT)
            call.end(failure)
            await closing
        except BaseException:
            await publisher.close(publish_rest=False)
            raise
        else:
            await publisher.close()

    async def _replay(self, name: str, call: SharedCall) -> bool:
        """Replay the leader's items; return False if it is gone and has published nothing."""
        position, token, count = STREAM_START, "", 0
        while True:
            published = await self._read(name, position)
            position = published.position
            for batch in published.batches:
                if batch.first != count or batch.token != (token or batch.token):
                    raise _ItemsLost
                token = batch.token
                count += len(batch.items)
                if _replay_batch(batch, call):
                    return True
            if published.leader != (token or published.leader) or not published.leader:
                if call.has_items:
                    raise _leader_lost()
                return False
            await asyncio.sleep(POLL_SECONDS)

    async def _read(self, name: str, position: str) -> Published:
        for _ in range(READ_ATTEMPTS - 1):
            with contextlib.suppress(RedisError):
                return await self._leases.read(name, position)
            await asyncio.sleep(POLL_SECONDS)
        return await self._leases.read(name, position)


class _ItemsLost(Exception):
    """The published items have a gap."""


async def _execute(call: SharedCall, work: Work, publisher: Publisher | None = None) -> None:
    async with contextlib.aclosing(work()) as items:
        async for item in items:
            call.add(item)
            if publisher:
                publisher.add(item)


def _replay_batch(batch: Batch, call: SharedCall) -> bool:
    """Add the items of a batch to a call; return whether the call has ended."""
    for item in batch.items:
        if "failure" in item:
            raise error_details.from_dict(item["failure"])
        call.add(item)
        if "done" in item:
            return True
    return False


def _leader_lost() -> Aborted:
    return Aborted(
        "LEADER_LOST",
        "The replica that was writing this answer is gone. Send the request again.",
        retry_after=0.1,
    )
