"""What is done with the models: inputs to vectors, texts to tokens, texts to their ranks."""

import asyncio
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from services import deadlines
from services.embedder import encodings, requests, vector_cache
from services.embedder.batching.batcher import Batcher, Computed
from services.embedder.cpu import preparing
from services.embedder.decoding import audio, images
from services.embedder.encodings import Packed
from services.embedder.model_version import Version
from services.embedder.models.model import Content, Model, ModelInfo, PreparedInput, Tokens
from services.embedder.registry import Models
from services.embedder.requests import Order, Ranking, SoundFile
from services.embedder.vector_cache import Memory
from services.errors import InvalidArgument

# Shorter texts are tokenised at once: sending them to another thread would take longer.
_INLINE_CHARACTERS = 2_000
_SHARE = 64


@dataclass(frozen=True)
class Times:
    """Where the time went, in seconds, as the slowest input saw it."""

    queue: float
    preprocess: float
    inference: float


@dataclass(frozen=True)
class Embedded:
    """A batch, embedded; ``recalled`` inputs were not computed but remembered."""

    info: ModelInfo
    packed: Packed
    encoding: str
    tokens: list[int]
    truncated: list[bool]
    recalled: int
    times: Times


@dataclass(frozen=True)
class Ranked:
    """Texts, held against a question: a score for each, in their order."""

    info: ModelInfo
    scores: list[float]
    truncated: list[bool]
    times: Times


class Embedding:
    """The models at work; ``remembered`` is how many bytes of vectors to keep."""

    def __init__(self, models: Models, remembered: int = 0) -> None:
        self._models = models
        self._memory = Memory(remembered) if remembered else None
        self._threads, self._bulk_threads = preparing(bulk=False), preparing(bulk=True)

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown()
        self._bulk_threads.shutdown()

    async def embed(self, order: Order) -> Embedded:
        """Embed a batch, all or nothing; equal inputs are computed once."""
        requests.check(order)
        kind = min(map(requests.modality, order.inputs))
        with await self._models.version(order.model, kind) as version:
            requests.check_kinds(order, version.model)
            return await self._embed(version, order)

    async def _embed(self, version: Version, order: Order) -> Embedded:
        model, batcher = version.model, version.batcher
        encodings.check_dimensions(order.dimensions, model.info.dimensions)
        keys = self._keys(model.info, order)
        found = self._memory.recall(keys) if self._memory else {}
        places = {key: n for n, key in enumerate(keys) if key not in found}
        batcher.refuse_if_full(len(places), bulk=order.bulk, within=deadlines.time_left())
        if not order.truncate:
            kept = ((n, found[key]) for n, key in enumerate(keys) if key in found)
            requests.refuse_cut(kept, model)
        task = _Task(order, model, batcher, list(places.values()))
        with batcher.metrics.effort.in_hand(len(places)):
            items, computed = await task.compute(
                self._bulk_threads if order.bulk else self._threads
            )
        batcher.metrics.asked(len(keys), len(found), task.preprocess)
        fresh = dict(zip(places, items, strict=True))
        new = dict(zip(places, computed.rows, strict=True))
        if self._memory:
            self._memory.keep(new, fresh)
        rows = computed.rows
        if len(places) < len(keys):
            rows = np.stack([new[key] if key in new else found[key].row for key in keys])
        rows = encodings.shape(rows, order.dimensions, normalize=order.normalize)
        seen = [found.get(key) or fresh[key] for key in keys]
        return Embedded(
            info=model.info,
            packed=encodings.pack(
                rows,
                order.encoding,
                version.ranges.scale(order.dimensions, normalize=order.normalize),
            ),
            encoding=order.encoding,
            tokens=[one.tokens for one in seen],
            truncated=[one.truncated for one in seen],
            recalled=sum(key in found for key in keys) if found else 0,
            times=Times(computed.queue, task.preprocess, computed.inference),
        )

    async def rerank(self, ranking: Ranking) -> Ranked:
        """Score texts by a cross-encoder, which reads each together with the question."""
        requests.check_ranking(ranking)
        with await self._models.version(ranking.model, "pair") as version:
            return await self._rerank(version, ranking)

    async def _rerank(self, version: Version, ranking: Ranking) -> Ranked:
        model, batcher = version.model, version.batcher
        if "pair" not in model.info.modalities:
            raise requests.not_taken(model, "pair of texts", "model")
        batcher.refuse_if_full(len(ranking.texts), bulk=ranking.bulk, within=deadlines.time_left())
        pairs = list(zip(repeat(ranking.query), ranking.texts))
        threads = self._bulk_threads if ranking.bulk else self._threads
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        with batcher.metrics.effort.in_hand(len(pairs)):
            items = await loop.run_in_executor(threads, model.prepare, pairs, "")
            preprocess = time.perf_counter() - started
            batcher.metrics.asked(len(pairs), 0, preprocess)
            computed = await batcher.submit(items, bulk=ranking.bulk, within=deadlines.time_left())
        return Ranked(
            info=model.info,
            scores=computed.rows[:, 0].tolist(),
            truncated=[item.truncated for item in items],
            times=Times(computed.queue, preprocess, computed.inference),
        )

    async def tokenize(self, name: str, texts: Sequence[str]) -> tuple[ModelInfo, list[Tokens]]:
        """Return where the tokens of texts lie."""
        if not texts:
            raise InvalidArgument("EMPTY_BATCH", "texts is empty.", field="texts")
        if len(texts) > requests.INPUTS_LIMIT:
            raise requests.too_many("texts")
        with await self._models.version(name) as version:
            model = version.model
            if "text" not in model.info.modalities:
                raise requests.not_taken(model, "text", "model")
            loop = asyncio.get_running_loop()
            call = loop.run_in_executor(self._threads, lambda: list(map(model.tokenize, texts)))
            return model.info, await call

    def _keys(self, info: ModelInfo, order: Order) -> Sequence[Hashable]:
        """Return what is equal for equal inputs; without a memory, the inputs themselves."""
        if self._memory is None:
            return order.inputs
        return vector_cache.keys(info.digest, order.task, order.inputs)


@dataclass
class _Task:
    """The inputs of an order that must be computed: prepared, then handed to the batcher.

    Attributes:
        places: of these inputs in the order.
        preprocess: seconds until the last was prepared.
    """

    order: Order
    model: Model
    batcher: Batcher
    places: list[int]
    preprocess: float = 0.0

    async def compute(self, threads: ThreadPoolExecutor) -> tuple[list[PreparedInput], Computed]:
        """Return the inputs as they were prepared, and their vectors.

        Many are prepared in parts, by threads; the first are computed while the last are prepared.
        """
        self._started = time.perf_counter()
        bulk, within = self.order.bulk, deadlines.time_left()
        if self._is_short():
            items = self._checked(self._prepare(self.places), self.places)
            return items, await self.batcher.submit(items, bulk=bulk, within=within)
        shares = [self.places[n : n + _SHARE] for n in range(0, len(self.places), _SHARE)]
        calls = [threads.submit(self._prepare, share) for share in shares]
        items = []

        async def part(call: Future[list[PreparedInput]], share: list[int]) -> list[PreparedInput]:
            found = self._checked(await asyncio.wrap_future(call), share)
            items.extend(found)
            return found

        parts = map(part, calls, shares)
        try:
            computed = await self.batcher.submit_parts(
                parts, len(self.places), bulk=bulk, within=within
            )
        finally:
            for call in calls:
                call.cancel()
        return items, computed

    def _is_short(self) -> bool:
        inputs = [self.order.inputs[place] for place in self.places]
        texts = [value for value in inputs if isinstance(value, str)]
        return len(texts) == len(inputs) and sum(map(len, texts)) <= _INLINE_CHARACTERS

    def _prepare(self, places: list[int]) -> list[PreparedInput]:
        contents = [_content(self.order.inputs[place], f"inputs[{place}]") for place in places]
        return self.model.prepare(contents, self.order.task) if contents else []

    def _checked(self, items: list[PreparedInput], places: list[int]) -> list[PreparedInput]:
        """Refuse what was cut but may not be."""
        self.preprocess = time.perf_counter() - self._started
        if not self.order.truncate:
            requests.refuse_cut(zip(places, items, strict=True), self.model)
        return items


def _content(value: str | bytes, place: str) -> Content:
    if isinstance(value, str):
        return value
    if isinstance(value, SoundFile):
        return audio.decode(value, f"{place}.audio")
    return images.decode(value, f"{place}.image")
