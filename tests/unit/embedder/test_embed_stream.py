import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from services.embedder.embed_stream import embed_in_order
from services.embedder.requests import EmbedRequest
from services.embedder.service import EmbeddingService
from services.errors import Failure, InvalidArgument
from tests.fakes.models import TIMEOUT, wait_until


class FakeService:
    """Embeds a request when it is told to; its result is the request's text."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.most_in_flight = 0
        self.started: asyncio.Queue[str] = asyncio.Queue()
        self.cancelled = list[str]()
        self._gates: dict[str, asyncio.Event] = {}

    def finish(self, text: str) -> None:
        self._gates.setdefault(text, asyncio.Event()).set()

    async def embed(self, request: EmbedRequest) -> str:
        text = str(request.inputs[0])
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.started.put_nowait(text)
        try:
            await self._gates.setdefault(text, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled.append(text)
            raise
        finally:
            self.in_flight -= 1
        if text == "bad":
            raise InvalidArgument("BAD", "bad")
        return text


async def requests(texts: Sequence[str]) -> AsyncIterator[EmbedRequest]:
    for text in texts:
        yield EmbedRequest([text])


def stream(service: FakeService, texts: Sequence[str], max_in_flight: int = 8) -> Any:
    return embed_in_order(requests(texts), cast(EmbeddingService, service), max_in_flight)


async def test_results_come_in_order_whichever_is_finished_first() -> None:
    service = FakeService()
    found = stream(service, ["a", "b", "c"])
    first = asyncio.create_task(anext(found))
    assert [await service.started.get() for _ in range(3)] == ["a", "b", "c"]
    for text in ("c", "b", "a"):
        service.finish(text)
    assert [await first, *[one async for one in found]] == ["a", "b", "c"]


async def test_a_failure_takes_its_place_and_the_stream_goes_on() -> None:
    service = FakeService()
    for text in ("a", "bad", "b"):
        service.finish(text)
    first, failure, last = [one async for one in stream(service, ["a", "bad", "b"])]
    assert (first, last) == ("a", "b")
    assert isinstance(failure, Failure)
    assert failure.reason == "BAD"


async def test_requests_in_flight_are_bounded() -> None:
    service = FakeService()
    texts = [str(number) for number in range(50)]
    found = []
    async with asyncio.timeout(TIMEOUT):
        for text in texts:
            service.finish(text)
        async for one in stream(service, texts, max_in_flight=4):
            found.append(one)
    assert found == texts
    # Beyond the queue, one request waits for room and one is being awaited.
    assert service.most_in_flight <= 6


async def test_an_error_of_the_requests_ends_the_stream() -> None:
    async def broken() -> AsyncIterator[EmbedRequest]:
        yield EmbedRequest(["a"])
        raise ValueError("the caller has gone")

    service = FakeService()
    service.finish("a")
    found = embed_in_order(broken(), cast(EmbeddingService, service))
    assert cast(Any, await anext(found)) == "a"
    with pytest.raises(ValueError, match="the caller has gone"):
        await anext(found)


async def test_closing_the_stream_cancels_what_is_in_flight() -> None:
    service = FakeService()
    found = stream(service, ["a", "b", "c"])
    service.finish("a")
    assert await anext(found) == "a"
    for _ in range(3):
        await service.started.get()
    await found.aclose()
    await wait_until(lambda: not service.in_flight)
    assert sorted(service.cancelled) == ["b", "c"]
