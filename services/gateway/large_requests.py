"""Reads large requests in threads, so that other calls can run meanwhile."""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

# A message above this size takes milliseconds to read.
THREAD_BYTES = 2**16


class Message(Protocol):
    """A protobuf message."""

    def ByteSize(self) -> int:  # noqa: N802 - the name in protobuf
        """Return its size in bytes."""


M = TypeVar("M", bound=Message)
T = TypeVar("T")


async def read(function: Callable[[M], T], message: M) -> T:
    """Return what ``function`` reads from a message; a large one is read in a thread."""
    if message.ByteSize() > THREAD_BYTES:
        return await asyncio.to_thread(function, message)
    return function(message)
