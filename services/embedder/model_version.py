"""A version of a model at work: its queue, the calls that hold it, and its end.

A model that is loaded anew is a new version beside the old one. New calls go to the new one; the
old one computes what its own calls have asked for and is let go of after the last of them.
"""

import asyncio

from services.embedder.batching.batcher import Batcher
from services.embedder.int8_scales import Ranges
from services.embedder.models.model import Model


class Version:
    """A loaded model behind its batcher; it is kept open while a call holds it by ``with``.

    Args:
        model: what computes.
        ranges: in which its vectors lie.
        queue_tokens: tokens that may wait for it.
        fingerprint: of the files it was loaded from.
    """

    def __init__(self, model: Model, ranges: Ranges, queue_tokens: int, fingerprint: str) -> None:
        self.model, self.ranges, self.fingerprint = model, ranges, fingerprint
        self.batcher = Batcher(model, queue_tokens)
        self._calls = 0
        self._left = asyncio.Event()
        self._left.set()

    async def open(self) -> None:
        """Begin to compute."""
        await self.batcher.__aenter__()

    async def close(self) -> None:
        """Compute no more; what waits is given up."""
        await self.batcher.__aexit__(None, None, None)

    async def drain(self) -> None:
        """Close once no call holds it."""
        try:
            await self._left.wait()
        finally:
            await self.close()

    def __enter__(self) -> "Version":
        self._calls += 1
        self._left.clear()
        return self

    def __exit__(self, *exc: object) -> None:
        self._calls -= 1
        if not self._calls:
            self._left.set()
