"""Preprocesses and computes the inputs of a request. For many inputs, the two overlap."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from services import deadlines
from services.embedder import requests
from services.embedder.batching.batcher import Batcher, Computed
from services.embedder.decoding import audio, images
from services.embedder.models.model import Content, Model, PreparedInput
from services.embedder.requests import AudioFile, EmbedRequest, Input

# Texts with fewer characters are tokenised on the event loop, because handing them to a thread
# would take longer.
_MAX_INLINE_CHARACTERS = 2_000
_INPUTS_PER_PART = 64


@dataclass
class Pipeline:
    """The inputs of a request that must be computed.

    Attributes:
        indices: the positions of these inputs in the request.
        preprocess_seconds: time until the last input was preprocessed.
    """

    request: EmbedRequest
    model: Model
    batcher: Batcher
    indices: Sequence[int]
    preprocess_seconds: float = 0.0

    async def run(self, pool: ThreadPoolExecutor) -> tuple[list[PreparedInput], Computed]:
        """Return the preprocessed inputs and their vectors, in the order of ``indices``.

        ``pool`` preprocesses many inputs in parts. The model computes the first parts while the
        last are still preprocessed.

        Raises:
            InvalidArgument: an input cannot be decoded, or is too long and may not be truncated.
            Overloaded: the queue is full.
            DeadlineExceeded: the call's deadline passed before the vectors were computed.
        """
        self._started_at = time.perf_counter()
        bulk, timeout = self.request.bulk, deadlines.time_left()
        if self._is_short():
            prepared = self._checked(self._prepare(self.indices), self.indices)
            return prepared, await self.batcher.submit(prepared, bulk=bulk, timeout=timeout)
        parts = [
            self.indices[first : first + _INPUTS_PER_PART]
            for first in range(0, len(self.indices), _INPUTS_PER_PART)
        ]
        futures = [pool.submit(self._prepare, part) for part in parts]
        prepared = []

        async def finish(
            future: Future[list[PreparedInput]], part: Sequence[int]
        ) -> list[PreparedInput]:
            checked = self._checked(await asyncio.wrap_future(future), part)
            prepared.extend(checked)
            return checked

        try:
            computed = await self.batcher.submit_parts(
                map(finish, futures, parts), len(self.indices), bulk=bulk, timeout=timeout
            )
        finally:
            for future in futures:
                future.cancel()
        return prepared, computed

    def _is_short(self) -> bool:
        inputs = [self.request.inputs[index] for index in self.indices]
        texts = [value for value in inputs if isinstance(value, str)]
        return len(texts) == len(inputs) and sum(map(len, texts)) <= _MAX_INLINE_CHARACTERS

    def _prepare(self, indices: Iterable[int]) -> list[PreparedInput]:
        contents = [_decoded(self.request.inputs[index], index) for index in indices]
        return self.model.prepare(contents, self.request.task) if contents else []

    def _checked(
        self, prepared: list[PreparedInput], indices: Sequence[int]
    ) -> list[PreparedInput]:
        """Return the inputs, or raise if the request forbids truncation and one was truncated."""
        self.preprocess_seconds = time.perf_counter() - self._started_at
        if not self.request.truncate:
            requests.reject_truncated(zip(indices, prepared, strict=True), self.model.info)
        return prepared


def _decoded(value: Input, index: int) -> Content:
    if isinstance(value, str):
        return value
    if isinstance(value, AudioFile):
        return audio.decode(value, f"inputs[{index}].audio")
    return images.decode(value, f"inputs[{index}].image")
