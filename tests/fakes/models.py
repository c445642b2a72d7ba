"""Models without weights, for tests of the embedder."""

import asyncio
import threading
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from services.embedder.models.model import (
    AudioClip,
    Content,
    ModelInfo,
    PreparedInput,
    Tokens,
    Vectors,
)
from services.embedder.models.reading import Reader
from tests.fakes.tokenizers import UNKNOWN

TIMEOUT = 30.0  # only a broken test waits this long


def model_info(
    *modalities: str,
    name: str = "fake",
    dimensions: int = 8,
    digest: str = "d" * 64,
    workers: int = 1,
    batch_tokens: int = 8192,
) -> ModelInfo:
    return ModelInfo(
        name=name,
        modalities=frozenset(modalities),
        dimensions=dimensions,
        max_tokens=9,
        runtime="none",
        device="cpu",
        dtype="float32",
        digest=digest,
        workers=workers,
        batch_tokens=batch_tokens,
    )


class FakeModel:
    """A model whose vectors are random numbers that depend only on the content.

    Words are tokens; it reads ``info.max_tokens`` of them. ``noise`` stretches its vectors.
    """

    def __init__(self, info: ModelInfo | None = None, noise: float = 0.0) -> None:
        self.info = info or model_info("text")
        self.prepared: list[Content] = []
        self.tasks: list[str] = []
        self.encoded = 0
        self._noise = noise

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        self.prepared += contents
        self.tasks.append(task)
        return [self._prepare(content, task) for content in contents]

    def encode(self, batch: Sequence[PreparedInput]) -> Vectors:
        self.encoded += len(batch)
        rows = [np.random.default_rng(item.payload).normal(size=self._size) for item in batch]
        return np.array(rows, np.float32).reshape(-1, self._size) * (1 + self._noise)

    def tokenize(self, text: str) -> Tokens:
        starts = [n for n, one in enumerate(text) if one != " " and text[n - 1 : n] in ("", " ")]
        return Tokens(starts, [], len(text.split()))

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return a text of the ids as code points of ASCII."""
        for one in ids:
            if one > 127:
                raise KeyError(one)
        return "".join(map(chr, ids))

    @property
    def _size(self) -> int:
        return self.info.dimensions

    def _prepare(self, content: Content, task: str) -> PreparedInput:
        seed = zlib.crc32(task.encode() + _content_bytes(content))
        words = len(content.split()) if isinstance(content, str) else 1
        tokens = min(words, self.info.max_tokens)
        return PreparedInput(seed, tokens, tokens, words > tokens, seed)


class BagOfTokens(FakeModel):
    """A model whose vector of a text is the sum of random vectors, one for each token.

    Words weigh more than letters.
    """

    def __init__(self, tokenizer: Tokenizer, info: ModelInfo | None = None) -> None:
        super().__init__(info or model_info("text", dimensions=256))
        self._tokenizer, self._reader = tokenizer, Reader(tokenizer, UNKNOWN)

    def encode(self, batch: Sequence[PreparedInput]) -> Vectors:
        self.encoded += len(batch)
        rows = [sum(map(self._token_vector, item.payload)) for item in batch]
        return np.array(rows, np.float32)

    def _token_vector(self, token: int) -> Vectors:
        name = (self._tokenizer.id_to_token(token) or "").removeprefix("##")
        weight = 1 if (len(name) == 1 and name.isalpha()) or name == "[UNK]" else 4
        return weight * np.random.default_rng(token).normal(size=self._size).astype(np.float32)

    def _prepare(self, content: Content, task: str) -> PreparedInput:
        assert isinstance(content, str)
        encoding = self._tokenizer.encode(content)
        truncated = bool(encoding.overflowing)
        reading = self._reader.read(encoding, content, prompt_length=0, truncated=truncated)
        ids = encoding.ids
        return PreparedInput(ids, len(ids), len(ids), truncated, tuple(ids), reading)


class GatedModel:
    """A model of numbers, each of which is its own vector.

    ``encode`` waits while ``gate`` is closed, and fails if a number is negative.
    """

    def __init__(self, workers: int = 1, batch_tokens: int = 8192) -> None:
        self.info = model_info("text", dimensions=1, workers=workers, batch_tokens=batch_tokens)
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self._started = threading.Semaphore(0)

    async def batch_started(self) -> None:
        """Wait until one more batch has started."""
        assert await asyncio.to_thread(self._started.acquire, timeout=TIMEOUT)

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        raise NotImplementedError

    def tokenize(self, text: str) -> Tokens:
        raise NotImplementedError

    def detokenize(self, ids: Sequence[int]) -> str:
        raise NotImplementedError

    def encode(self, batch: Sequence[PreparedInput]) -> Vectors:
        self._started.release()
        assert self.gate.wait(TIMEOUT)
        numbers = [item.payload for item in batch]
        self.batches.append(numbers)
        if min(numbers) < 0:
            raise ValueError("a number is negative")
        return np.array(numbers, np.float32)[:, None]


def number(value: int, cost: int = 10) -> PreparedInput:
    """An input of ``GatedModel``."""
    return PreparedInput(value, cost, cost, False, value)


async def run_ready_tasks() -> None:
    """Let every task that is ready run until it waits."""
    await asyncio.sleep(0)


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until another thread or task makes a condition true, if nothing signals it."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def _content_bytes(content: Content) -> bytes:
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, Image.Image):
        return content.tobytes()
    if isinstance(content, AudioClip):
        return content.samples.tobytes()
    return "\0".join(content).encode()
