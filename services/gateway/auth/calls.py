"""A call of an authenticated caller, within its limits and for as long as its key is valid."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from services.errors import Unauthenticated
from services.gateway.auth.caller import set_caller
from services.gateway.auth.limit_headers import Headers, limit_headers
from services.gateway.auth.limiter import LimitedCall
from services.key_file import Key


class RunningCall(AbstractAsyncContextManager[None]):
    """What a call runs inside.

    The caller is known from the construction on, because limits of the server need its tenant.

    Args:
        key: the caller's key.
        running: the running calls of all keys, which this one joins.
        limited: counts the call; None if the caller has no limits.
    """

    def __init__(
        self, key: Key, running: "set[RunningCall]", limited: LimitedCall | None = None
    ) -> None:
        self.key, self._running, self._limited = key, running, limited
        self._task: asyncio.Task[object] | None = None
        self._is_ended = False
        set_caller(key, limited.charge if limited else None)

    async def __aenter__(self) -> None:
        if self._limited:
            await self._limited.begin()
        self._task = asyncio.current_task()
        self._running.add(self)

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._running.discard(self)
        if self._limited:
            self._limited.end()
        if self._is_ended and isinstance(error, asyncio.CancelledError) and self._task:
            self._task.uncancel()
            raise Unauthenticated(
                "API_KEY_REVOKED", "The API key was revoked or has expired during the call."
            ) from error

    def headers(self) -> Headers:
        """Return the headers that tell the caller what its limits leave."""
        return limit_headers(self._limited.subjects, self._limited.counts) if self._limited else []

    def end(self) -> None:
        """End the call, because its key is no longer valid."""
        if self._task and not self._is_ended:
            self._is_ended = True
            self._task.cancel()


class PendingCall(AbstractAsyncContextManager[None]):
    """A call whose caller is known only when the call begins. ``find`` authenticates it."""

    def __init__(self, find: Callable[[], Awaitable[RunningCall]]) -> None:
        self._find = find
        self._call: RunningCall | None = None

    async def __aenter__(self) -> None:
        self._call = await self._find()
        await self._call.__aenter__()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._call:
            await self._call.__aexit__(kind, error, traceback)

    def headers(self) -> Headers:
        """Return the headers that tell the caller what its limits leave."""
        return self._call.headers() if self._call else []


Admission = RunningCall | PendingCall
