import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from services import deadlines
from services.errors import Failure, InvalidArgument
from services.gateway.http import event_streams
from services.gateway.http.event_streams import KEEPALIVE, event_stream


class Source:
    """Yields texts, waits until it is released, and then yields the rest or raises."""

    def __init__(self, *texts: str, rest: tuple[str, ...] = (), error: Exception | None = None):
        self._texts, self._rest, self._error = texts, rest, error
        self.started, self.released = asyncio.Event(), asyncio.Event()
        self.closed = False

    async def events(self) -> AsyncIterator[str]:
        self.started.set()
        try:
            for text in self._texts:
                yield text
            await self.released.wait()
            for text in self._rest:
                yield text
            if self._error:
                raise self._error
        finally:
            self.closed = True


def failure_event(failure: Failure) -> str:
    return f"failed: {failure.reason}"


async def respond(source: Source, keepalive: float = 60.0) -> StreamingResponse:
    return await event_stream(source.events(), failure_event, keepalive)


async def texts(response: StreamingResponse) -> list[Any]:
    return [text async for text in response.body_iterator]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "FIRST_EVENT_WAIT", 0.0)


async def test_events_are_streamed_in_order() -> None:
    source = Source("a", rest=tuple(map(str, range(100))))
    source.released.set()
    response = await respond(source)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert await texts(response) == ["a", *map(str, range(100))]


async def test_a_failure_before_the_first_event_is_raised() -> None:
    source = Source(error=InvalidArgument("BAD", "It is bad."))
    source.released.set()
    with pytest.raises(InvalidArgument):
        await respond(source)
    assert source.closed


@pytest.mark.parametrize(
    ("error", "reason"), [(InvalidArgument("BAD", "Bad."), "BAD"), (KeyError("x"), "INTERNAL")]
)
async def test_a_later_failure_is_the_last_event(error: Exception, reason: str) -> None:
    source = Source("a", error=error)
    source.released.set()
    assert await texts(await respond(source)) == ["a", f"failed: {reason}"]


@pytest.mark.usefixtures("impatient")
async def test_a_silent_source_gets_headers_and_comments() -> None:
    source = Source(rest=("a",))
    response = await respond(source, keepalive=0.001)
    received: list[Any] = []
    async for text in response.body_iterator:
        received.append(text)
        if len(received) == 5:
            assert received == [KEEPALIVE] * 5
            source.released.set()
    assert [text for text in received if text != KEEPALIVE] == ["a"]


@pytest.mark.usefixtures("impatient")
async def test_the_deadline_of_the_call_ends_a_silent_stream() -> None:
    source = Source()
    with deadlines.limit(0.05):
        response = await respond(source)
    assert (await texts(response))[-1] == "failed: DEADLINE_EXCEEDED"
    assert source.closed


async def test_a_caller_who_leaves_before_the_first_event_ends_the_events() -> None:
    source = Source()
    task = asyncio.create_task(respond(source))
    await source.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed


async def test_a_caller_who_has_left_ends_the_events() -> None:
    source = Source("a")
    response = await respond(source)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    await response({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
    assert source.closed


async def test_a_caller_who_cannot_be_sent_headers_ends_the_events() -> None:
    source = Source("a")
    response = await respond(source)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        raise OSError

    with pytest.raises(ClientDisconnect):
        await response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
    assert source.closed
