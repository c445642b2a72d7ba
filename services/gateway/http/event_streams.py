"""Streams server-sent events, and keeps a connection alive while nothing happens."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from services import deadlines
from services.errors import Failure

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
# Seconds to wait for the first event before the headers are sent. A failure within this time still
# gets its own HTTP status.
FIRST_EVENT_WAIT = 1.0
# A line that starts with a colon is a comment (WHATWG HTML, section 9.2.6).
KEEPALIVE = ": keep-alive\n\n"
_QUEUED_EVENTS = 16

FailureEvent = Callable[[Failure], str]
_Item = str | Failure | None


async def event_stream(
    events: AsyncIterator[str],
    failure_event: FailureEvent,
    keepalive_seconds: float,
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """Return a response that streams events, within the deadline of the current call.

    Args:
        events: the events, as text.
        failure_event: returns the event that reports a failure after the headers were sent.
        keepalive_seconds: seconds without an event after which a comment is sent.
        headers: more headers of the response.

    Raises:
        Failure: the events failed before the headers were sent.
    """
    queue: asyncio.Queue[_Item] = asyncio.Queue(_QUEUED_EVENTS)
    pump = asyncio.create_task(_pump(events, queue))
    first: _Item
    try:
        async with asyncio.timeout(FIRST_EVENT_WAIT):
            first = await queue.get()
    except TimeoutError:
        first = KEEPALIVE
    except BaseException:
        await _cancel(pump)
        raise
    if isinstance(first, Failure):
        raise first
    texts = _texts(first, queue, failure_event, keepalive_seconds)
    return _EventStream(texts, pump, {"Cache-Control": "no-store", **(headers or {})})


class _EventStream(StreamingResponse):
    """Stops its events when the client has left or the response has ended."""

    def __init__(
        self, texts: AsyncIterator[str], pump: asyncio.Task[None], headers: Mapping[str, str]
    ) -> None:
        super().__init__(texts, headers=headers, media_type=MEDIA_TYPE)
        self._pump = pump

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await _cancel(self._pump)


async def _pump(events: AsyncIterator[str], queue: asyncio.Queue[_Item]) -> None:
    """Put events into a queue, then the failure that ended them, or None."""
    end: Failure | None = None
    try:
        async with asyncio.timeout(deadlines.time_left()):
            async for event in events:
                await queue.put(event)
    except Failure as failure:
        end = failure
    except TimeoutError:
        end = deadlines.exceeded()
    except Exception:
        log.exception("an event stream failed")
        end = Failure("INTERNAL", "The service has an internal error. Its log shows why.")
    await queue.put(end)


async def _texts(
    first: _Item,
    queue: asyncio.Queue[_Item],
    failure_event: FailureEvent,
    keepalive_seconds: float,
) -> AsyncIterator[str]:
    item = first
    while item is not None:
        if isinstance(item, Failure):
            yield failure_event(item)
            return
        yield item
        try:
            async with asyncio.timeout(keepalive_seconds or None):
                item = await queue.get()
        except TimeoutError:
            item = KEEPALIVE


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
