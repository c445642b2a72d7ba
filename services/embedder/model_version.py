"""A loaded version of a model, open until the last call that uses it has ended.

A model that is reloaded becomes a new version beside the old one. New calls go to the new version;
the old one finishes its own calls and is then closed.
"""

import asyncio

from services.embedder.batching.batcher import Batcher
from services.embedder.int8_scales import Int8Scales
from services.embedder.models.model import Model
from services.embedder.readability import Readability


class ModelVersion:
    """A loaded model behind its batcher. A call holds it open with ``with``.

    Args:
        model: the loaded model.
        scales: the scales of its INT8 codes.
        readability: which texts it can read.
        max_queue_tokens: how many tokens its queue holds.
        fingerprint: the state of the files that it was loaded from.
    """

    def __init__(
        self,
        model: Model,
        scales: Int8Scales,
        readability: Readability,
        max_queue_tokens: int,
        fingerprint: str,
    ) -> None:
        self.model, self.scales, self.readability = model, scales, readability
        self.fingerprint = fingerprint
        self.batcher = Batcher(model, max_queue_tokens)
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Start the workers."""
        await self.batcher.__aenter__()

    async def close(self) -> None:
        """Stop the workers without computing queued inputs."""
        await self.batcher.__aexit__(None, None, None)

    async def drain(self) -> None:
        """Wait until no call uses this version, then close it."""
        try:
            await self._idle.wait()
        finally:
            await self.close()

    def __enter__(self) -> "ModelVersion":
        self._calls += 1
        self._idle.clear()
        return self

    def __exit__(self, *exc: object) -> None:
        self._calls -= 1
        if not self._calls:
            self._idle.set()
