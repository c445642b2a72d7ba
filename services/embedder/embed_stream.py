"""Embeds a stream of requests, several at a time, and returns the results in order."""

import asyncio
from collections.abc import AsyncIterator

from services.embedder.requests import EmbedRequest
from services.embedder.service import EmbeddingService, EmbedResult
from services.errors import Failure


async def embed_in_order(
    requests: AsyncIterator[EmbedRequest], service: EmbeddingService, max_in_flight: int = 8
) -> AsyncIterator[EmbedResult | Failure]:
    """Embed requests, up to ``max_in_flight`` at a time; yield a result or a failure for each.

    A failed request does not end the stream. Closing the iterator cancels requests in flight.
    """
    tasks: asyncio.Queue[asyncio.Task[EmbedResult] | None] = asyncio.Queue(max_in_flight)

    async def read_requests() -> None:
        try:
            async for request in requests:
                await tasks.put(asyncio.create_task(service.embed(request)))
        finally:
            await tasks.put(None)

    reader = asyncio.create_task(read_requests())
    try:
        while (task := await tasks.get()) is not None:
            try:
                yield await task
            except Failure as failure:
                yield failure
        await reader
    finally:
        reader.cancel()
        while not tasks.empty():
            unfinished = tasks.get_nowait()
            if unfinished:
                unfinished.cancel()
