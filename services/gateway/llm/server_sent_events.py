"""Reads server-sent events as language model servers write them (WHATWG HTML, section 9.2.6)."""

import re
from collections.abc import AsyncIterator
from typing import NamedTuple

# Only these end a line. JSON strings may contain U+2028 and U+0085, at which ``splitlines`` and
# ``httpx.Response.aiter_lines`` split, too.
_LINE_END = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class TooLongError(Exception):
    """An event is longer than the limit."""


class ServerSentEvent(NamedTuple):
    """An event: its type, which is usually empty, and its data, whose lines end with LF."""

    type: bytes
    data: bytes


async def read_events(
    parts: AsyncIterator[bytes], max_bytes: int
) -> AsyncIterator[ServerSentEvent]:
    """Yield the events of a stream that arrives in parts.

    The last event needs no empty line after it, because some servers write none.

    Raises:
        TooLongError: an event has more than ``max_bytes``.
    """
    event = _Event()
    async for line in _lines(parts, event, max_bytes):
        if line:
            event.add(line)
        elif event.data:
            yield event.take()
    if event.data:
        yield event.take()


class _Event:
    """The fields of the event that is being read."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.size = 0
        self._type = b""

    def add(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self.data.append(value)
            self.size += len(value) + 1
        elif name == b"event":
            self._type = value

    def take(self) -> ServerSentEvent:
        event = ServerSentEvent(self._type, b"\n".join(self.data))
        self.data, self.size, self._type = [], 0, b""
        return event


async def _lines(
    parts: AsyncIterator[bytes], event: _Event, max_bytes: int
) -> AsyncIterator[bytes]:
    """Yield the lines of a stream without their ends, and the rest after the last end."""
    rest, ends_with_cr, is_first = bytearray(), False, True
    async for part in parts:
        # A CR and an LF end one line, also if they arrive in two parts.
        text = part[1:] if ends_with_cr and part.startswith(b"\n") else part
        ends_with_cr = text.endswith(b"\r") if text else ends_with_cr and not part
        first, *others = _LINE_END.split(text)
        rest += first
        if len(rest) + event.size > max_bytes:
            raise TooLongError
        for line in others:
            yield bytes(rest).removeprefix(_BYTE_ORDER_MARK if is_first else b"")
            rest, is_first = bytearray(line), False
    if rest:
        yield bytes(rest).removeprefix(_BYTE_ORDER_MARK if is_first else b"")
