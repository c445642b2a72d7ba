from collections.abc import AsyncIterator, Sequence

import pytest

from services.gateway.llm.server_sent_events import TooLongError, read_events


async def read(parts: Sequence[bytes], max_bytes: int = 1000) -> list[tuple[bytes, bytes]]:
    async def arriving() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return [(event.type, event.data) async for event in read_events(arriving(), max_bytes)]


EVENTS = ["one", "line\u2028or\u2029 two\x85", "two\nlines", "", "{}"]


def written(end: str) -> bytes:
    blocks = [f"data: {text}".replace("\n", "\ndata:") for text in EVENTS]
    return "".join(f": note\nid: 7\n{block}\n\n\n" for block in blocks).replace("\n", end).encode()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
async def test_events_are_read_however_they_are_split(size: int, end: str, mark: bytes) -> None:
    text = mark + written(end)
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    # An event whose only line is empty has no data, but is one.
    assert await read(parts) == [(b"", text.encode()) for text in EVENTS]
    assert await read([b"", *parts, b""]) == await read(parts)


async def test_the_end_needs_no_empty_line() -> None:
    for text in (b"data: a", b"data:a\n", b"data: a\r", b"\xef\xbb\xbfdata: a"):
        assert await read([text]) == [(b"", b"a")]


async def test_events_have_types() -> None:
    assert await read([b"event: error\ndata: a\n\ndata: b\n\nevent: error\n\n"]) == [
        (b"error", b"a"),
        (b"", b"b"),
    ]


async def test_only_the_first_space_is_dropped() -> None:
    assert await read([b"data:  a \n\ndatax: b\n\ndata\n\n"]) == [(b"", b" a "), (b"", b"")]


async def test_an_event_without_end_is_refused() -> None:
    for part in (b"data: " + b"x" * 20, b"data: x\n"):
        with pytest.raises(TooLongError):
            await read([part] * 100, 200)
    assert len(await read([b"data: x\n\n"] * 1000, 200)) == 1000
