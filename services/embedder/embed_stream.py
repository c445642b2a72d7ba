"""Embeds streams of batches, several at a time, and answers in their order."""

import asyncio
from collections.abc import AsyncIterator

from services.embedder.requests import Order
from services.embedder.service import Embedded, Embedding
from services.errors import Failure


async def ordered(
    orders: AsyncIterator[Order], embedding: Embedding, flight: int = 8
) -> AsyncIterator[Embedded | Failure]:
    """Embed a stream of batches, ``flight`` at a time, and answer in their order."""
    tasks: asyncio.Queue[asyncio.Task[Embedded] | None] = asyncio.Queue(flight)

    async def feed() -> None:
        try:
            async for order in orders:
                await tasks.put(asyncio.create_task(embedding.embed(order)))
        finally:
            await tasks.put(None)

    feeder = asyncio.create_task(feed())
    try:
        while (task := await tasks.get()) is not None:
            try:
                yield await task
            except Failure as failure:
                yield failure
        await feeder
    finally:
        feeder.cancel()
        while not tasks.empty():
            left = tasks.get_nowait()
            if left:
                left.cancel()
