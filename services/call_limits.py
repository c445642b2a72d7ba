"""Bounds what callers can make a gRPC server hold: calls, messages that do not arrive, and bytes.

A call costs memory from its first headers, so their number is limited. A client that sends headers
and no message, or one byte at a time, holds a call for nothing. Such calls get little time, few of
them may have large messages, and they make room when the server is full.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from services.errors import DeadlineExceeded, Failure, Overloaded

MAX_CALLS = 4096
MAX_BYTES = 256 * 2**20
# Slow messages may reserve this many bytes, each as many as the limit of its method.
MAX_SLOW_BYTES = 256 * 2**20
# Seconds between two looks at the calls whose message has not arrived.
SWEEP_INTERVAL = 0.5
# After this many sweeps, a call makes room for a new one, counts as slow, or is cut. Sweeps and not
# seconds are counted, because a message may lie unread while the event loop is busy.
ROOM_SWEEPS = 1
SLOW_SWEEPS = 4
MAX_SWEEPS = 60
_RETRY_AFTER = 1.0


class ByteBudget:
    """Bounds the bytes of requests in memory, in all and for each owner.

    Args:
        total: how many bytes all owners may hold. One owner with a name may hold half of them.
    """

    def __init__(self, total: int) -> None:
        self._total, self._used = total, 0
        self._owners = Counter[str]()

    def acquire(self, size: int, owner: str = "") -> bool:
        """Return whether ``size`` bytes are available, and take them if so."""
        if self._used + size > self._total:
            return False
        if owner:
            if self._owners[owner] + size > self._total // 2:
                return False
            self._owners[owner] += size
        self._used += size
        return True

    def release(self, size: int, owner: str = "") -> None:
        """Give back bytes that ``acquire`` has taken."""
        self._used -= size
        if owner:
            self._owners[owner] -= size
            if not self._owners[owner]:
                del self._owners[owner]


def too_many_bytes() -> Overloaded:
    """Return the failure of a request for which ``ByteBudget`` has no room."""
    return Overloaded(
        "TOO_MANY_BYTES",
        "The requests that are being read take too much memory. Send fewer or smaller ones at the"
        " same time.",
        retry_after=_RETRY_AFTER,
    )


class CallLimits:
    """The limits of one server.

    Args:
        max_calls: how many calls may run or wait for a message.
        max_bytes: how many bytes the messages of running calls may have.
    """

    def __init__(self, max_calls: int = MAX_CALLS, max_bytes: int = MAX_BYTES) -> None:
        self._max_calls = max_calls
        self.bytes, self.slow_bytes = ByteBudget(max_bytes), ByteBudget(MAX_SLOW_BYTES)
        self.calls = 0
        self._waiting: dict[Call, None] = {}  # in the order of their begin
        self._sweep_timer: asyncio.TimerHandle | None = None

    def open(self, owner: str = "") -> "Call":
        """Return a call to run as a context.

        Raises:
            Overloaded: there are too many calls, and none of them waits for its message.
        """
        if self.calls >= self._max_calls:
            oldest = next(iter(self._waiting), None)
            if oldest is None or oldest.sweeps < ROOM_SWEEPS:
                raise server_full()
            self._cut(oldest, server_full())
        return Call(self, owner)

    def wait_for(self, call: "Call") -> None:
        """Watch a call that waits for its message."""
        self._waiting[call] = None
        if self._sweep_timer is None:
            loop = asyncio.get_running_loop()
            self._sweep_timer = loop.call_later(SWEEP_INTERVAL, self._sweep)

    def arrived(self, call: "Call") -> None:
        """Stop watching a call."""
        self._waiting.pop(call, None)

    def _sweep(self) -> None:
        self._sweep_timer = None
        for call in list(self._waiting):
            call.sweeps += 1
            if call.sweeps >= MAX_SWEEPS:
                self._cut(call, _too_slow())
            elif call.sweeps == SLOW_SWEEPS and not call.reserve():
                self._cut(call, server_full())
        if self._waiting:
            loop = asyncio.get_running_loop()
            self._sweep_timer = loop.call_later(SWEEP_INTERVAL, self._sweep)

    def _cut(self, call: "Call", failure: Failure) -> None:
        self._waiting.pop(call, None)
        call.cut(failure)


class Call:
    """One call: what it holds is released when its block ends."""

    __slots__ = (
        "_failure",
        "_held",
        "_limits",
        "_owner",
        "_reserved",
        "_timeout",
        "_weight",
        "sweeps",
    )

    def __init__(self, limits: CallLimits, owner: str) -> None:
        self._limits, self._owner = limits, owner
        self._held = self._reserved = self._weight = self.sweeps = 0
        self._timeout: asyncio.Timeout | None = None
        self._failure: Failure | None = None

    def __enter__(self) -> "Call":
        self._limits.calls += 1
        return self

    def __exit__(self, *exc: object) -> None:
        self._limits.calls -= 1
        self._limits.bytes.release(self._held, self._owner)

    async def receive(self, read: Callable[[], Awaitable[Any]], max_bytes: int) -> Any:
        """Return what ``read`` returns, a message of at most ``max_bytes``.

        Raises:
            DeadlineExceeded: the message takes too long.
            Overloaded: it is slow, and there are too many slow or too many calls.
        """
        self._weight = max_bytes
        self._limits.wait_for(self)
        try:
            async with asyncio.timeout(None) as self._timeout:
                return await read()
        except TimeoutError:
            if self._failure is None:
                raise
            raise self._failure from None
        finally:
            self._timeout = None
            self._limits.arrived(self)
            self._limits.slow_bytes.release(self._reserved, self._owner)
            self._reserved = 0

    def hold(self, size: int) -> None:
        """Hold the bytes of a message until the next one, or until the call ends.

        Raises:
            Overloaded: there is no room for them.
        """
        self._limits.bytes.release(self._held, self._owner)
        self._held = 0
        if not self._limits.bytes.acquire(size, self._owner):
            raise too_many_bytes()
        self._held = size

    def reserve(self) -> bool:
        """Reserve the bytes that a slow message may have. Return whether there is room for them."""
        if not self._limits.slow_bytes.acquire(self._weight, self._owner):
            return False
        self._reserved = self._weight
        return True

    def cut(self, failure: Failure) -> None:
        """End the wait for the message with a failure."""
        self._failure = failure
        if self._timeout is not None:
            with contextlib.suppress(RuntimeError):  # the message has arrived in this turn
                self._timeout.reschedule(0.0)


def server_full() -> Overloaded:
    """Return the failure of a call for which there is no room."""
    return Overloaded(
        "SERVER_FULL",
        "The server has too many calls at the same time. Try again.",
        retry_after=_RETRY_AFTER,
    )


def _too_slow() -> DeadlineExceeded:
    return DeadlineExceeded(
        "REQUEST_TOO_SLOW",
        f"The request message did not arrive within {MAX_SWEEPS * SWEEP_INTERVAL:.0f} s.",
    )
