"""Singleflight: concurrent callers of the same work, on all replicas, share one execution.

Like golang.org/x/sync/singleflight, but for work that yields items, and across processes. In a
process, callers share a ``SharedCall``. Across processes, the replica that holds the lease is the
leader: it does the work and publishes each item to Redis. The others are followers, which replay
the published items. A leader that dies loses its lease, and a follower takes over. Without Redis
every process does its own work.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from redis.exceptions import RedisError

from services import deadlines, error_details
from services.errors import Aborted, Failure
from services.gateway.coalescing.leases import STREAM_START, LeaseStore

log = logging.getLogger(__name__)

Item = dict[str, Any]
Work = Callable[[], AsyncIterator[Item]]
POLL_SECONDS = 0.05


class SharedCall:
    """One execution of some work: its items so far, ended by an item ``done`` or by a failure."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._error: BaseException | None = None
        self._ended = False
        self._changed = asyncio.Event()

    @property
    def has_items(self) -> bool:
        """Return whether any follower may have received an item."""
        return bool(self._items)

    def add(self, item: Item) -> None:
        """Append an item for all followers."""
        self._items.append(item)
        self._ended = "done" in item
        self._wake()

    def end(self, error: BaseException) -> None:
        """End with an error, unless the call has ended."""
        if not self._ended:
            self._ended, self._error = True, error
            self._wake()

    async def follow(self) -> AsyncIterator[Item]:
        """Yield all items from the first on. Raises what the work raises."""
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
    """The work in progress in this process, by name."""

    def __init__(self, leases: LeaseStore) -> None:
        self._leases = leases
        self._calls: dict[str, SharedCall] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def do(self, name: str, work: Work) -> SharedCall:
        """Return the call of this name, and start it if there is none.

        Args:
            name: identifies the work on all replicas.
            work: yields items, the last of which has ``done``. It may continue after that. Until it
                returns, nobody else starts work with this name.
        """
        call = self._calls.get(name)
        if call is None:
            call = self._calls[name] = SharedCall()
            task = asyncio.create_task(self._run(name, call, work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return call

    async def close(self) -> None:
        """Cancel all work. Other replicas take it over."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, name: str, call: SharedCall, work: Work) -> None:
        try:
            with deadlines.limit(deadlines.LONG_DEADLINE):
                await self._lead_or_replay(name, call, work)
            call.end(_leader_lost())
        except asyncio.CancelledError:
            call.end(_leader_lost())
            raise
        except Exception as error:
            if not isinstance(error, Failure):
                log.exception("shared work failed")
            call.end(error)
        finally:
            self._calls.pop(name, None)

    async def _lead_or_replay(self, name: str, call: SharedCall, work: Work) -> None:
        while True:
            try:
                token = await self._leases.acquire(name)
                if not token:
                    if await self._replay(name, call):
                        return
                    continue
            except RedisError:
                if call.has_items:
                    raise _leader_lost() from None
                token = ""
            await self._lead(name, token, call, work)
            return

    async def _lead(self, name: str, token: str, call: SharedCall, work: Work) -> None:
        """Do the work and publish its items.

        Without a token, this process works only for itself.
        """
        renewing = asyncio.create_task(self._renew(name, token))
        try:
            async for item in work():
                call.add(item)
                await self._publish(name, token, item)
        except Failure as failure:
            await self._publish(name, token, {"failure": error_details.to_dict(failure)})
            raise
        finally:
            renewing.cancel()
            if token:
                with contextlib.suppress(RedisError):
                    await asyncio.shield(self._leases.release(name, token))

    async def _publish(self, name: str, token: str, item: Item) -> None:
        if token:
            with contextlib.suppress(RedisError):
                await self._leases.publish(name, token, item)

    async def _renew(self, name: str, token: str) -> None:
        while token:
            await asyncio.sleep(self._leases.seconds / 3)
            with contextlib.suppress(RedisError):
                await self._leases.renew(name, token)

    async def _replay(self, name: str, call: SharedCall) -> bool:
        """Replay the leader's items; return False if it is gone and has published nothing."""
        position, token = STREAM_START, ""
        while True:
            published = await self._leases.read(name, position)
            position = published.position
            for publisher, item in published.items:
                if token and publisher != token:
                    raise _leader_lost()
                token = publisher
                if "failure" in item:
                    raise error_details.from_dict(item["failure"])
                call.add(item)
                if "done" in item:
                    return True
            if published.leader != (token or published.leader) or not published.leader:
                if call.has_items:
                    raise _leader_lost()
                return False
            await asyncio.sleep(POLL_SECONDS)


def _leader_lost() -> Aborted:
    return Aborted(
        "LEADER_LOST",
        "The replica that was writing this answer is gone. Send the request again.",
        retry_after=0.1,
    )
