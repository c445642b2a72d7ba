"""A call of an authenticated caller, which ends when its key is no longer valid."""

import asyncio
from contextlib import AbstractAsyncContextManager

from services.errors import Unauthenticated
from services.gateway.auth.caller import set_caller
from services.key_file import Key


class RunningCall(AbstractAsyncContextManager[None]):
    """What a call runs inside.

    Args:
        key: the caller's key.
        running: the running calls of all keys, which this one joins.
    """

    def __init__(self, key: Key, running: "set[RunningCall]") -> None:
        self.key, self._running = key, running
        self._task: asyncio.Task[object] | None = None
        self._is_ended = False

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        self._running.add(self)
        set_caller(self.key)

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._running.discard(self)
        if self._is_ended and isinstance(error, asyncio.CancelledError) and self._task:
            self._task.uncancel()
            raise Unauthenticated(
                "API_KEY_REVOKED", "The API key was revoked or has expired during the call."
            ) from error

    def end(self) -> None:
        """End the call, because its key is no longer valid."""
        if self._task and not self._is_ended:
            self._is_ended = True
            self._task.cancel()
