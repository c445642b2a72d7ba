"""The embedder's operations: embed inputs, rerank texts, tokenise texts."""

import asyncio
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from services import deadlines
from services.embedder import encodings, feature_maps, requests
from services.embedder.batching.batcher import Computed
from services.embedder.cpu import preprocessing_pool
from services.embedder.encodings import EncodedVectors
from services.embedder.feature_maps import FeatureMaps
from services.embedder.model_version import ModelVersion
from services.embedder.models.model import Model, ModelInfo, PreparedInput, Tokens, Vectors
from services.embedder.pipeline import Pipeline
from services.embedder.readability import TextReading
from services.embedder.registry import ModelRegistry
from services.embedder.requests import EmbedRequest, RerankRequest
from services.embedder.vector_cache import CachedVector, VectorCache, cache_keys
from services.errors import InvalidArgument


@dataclass(frozen=True)
class Timings:
    """Seconds spent in each stage, measured for the slowest input of a request."""

    queue: float
    preprocess: float
    inference: float


@dataclass(frozen=True)
class EmbedResult:
    """An embedded batch.

    Attributes:
        tokens: how many tokens each input has.
        truncated: whether each input was truncated.
        readings: how much of each text the model reads; None for other inputs.
        cached_inputs: how many inputs were answered from the vector cache.
    """

    info: ModelInfo
    vectors: EncodedVectors
    encoding: str
    tokens: list[int]
    truncated: list[bool]
    readings: list[TextReading | None]
    cached_inputs: int
    timings: Timings


@dataclass(frozen=True)
class RerankResult:
    """A score for each text, in the order of the request. Higher scores are better answers."""

    info: ModelInfo
    scores: list[float]
    truncated: list[bool]
    timings: Timings


class EmbeddingService:
    """Serves the models of a registry. ``cache_bytes`` limits the vector cache (0 disables it)."""

    def __init__(self, registry: ModelRegistry, cache_bytes: int = 0) -> None:
        self._registry = registry
        self._cache = VectorCache(cache_bytes) if cache_bytes else None
        self._pool = preprocessing_pool(bulk=False)
        self._bulk_pool = preprocessing_pool(bulk=True)

    def close(self) -> None:
        """Stop the preprocessing threads."""
        self._pool.shutdown()
        self._bulk_pool.shutdown()

    async def embed(self, request: EmbedRequest) -> EmbedResult:
        """Embed a batch: all inputs or none. Equal inputs are computed once.

        Raises:
            InvalidArgument: the request or one of its inputs is not valid.
            NotFound: there is no such model.
            Overloaded: the model's queue is full.
            Unavailable: the model is not loaded.
            DeadlineExceeded: the call's deadline passed.
        """
        requests.validate(request)
        modality = min(map(requests.modality, request.inputs))
        with await self._registry.current_version(request.model, modality) as version:
            info = version.model.info
            requests.validate_modalities(request, info)
            encodings.validate_dimensions(request.dimensions, info.dimensions)
            return await self._embed(version, request)

    async def _embed(self, version: ModelVersion, request: EmbedRequest) -> EmbedResult:
        model, batcher = version.model, version.batcher
        keys = self._keys(model.info, request)
        hits = self._cache.get(keys) if self._cache else {}
        misses = {key: index for index, key in enumerate(keys) if key not in hits}
        batcher.check_admission(len(misses), bulk=request.bulk, timeout=deadlines.time_left())
        if not request.truncate:
            cached = ((index, hits[key]) for index, key in enumerate(keys) if key in hits)
            requests.reject_truncated(cached, model.info)
        pipeline = Pipeline(request, model, batcher, list(misses.values()))
        with batcher.metrics.utilisation.demand(len(misses)):
            prepared, computed = await pipeline.run(self._pool_for(bulk=request.bulk))
        batcher.metrics.record_request(len(keys), len(hits), pipeline.preprocess_seconds)
        fresh = dict(zip(misses, prepared, strict=True))
        if self._cache and not request.no_store:
            self._cache.put(dict(zip(misses, computed.vectors, strict=True)), fresh)
        vectors = _merge(keys, hits, fresh, computed)
        inputs = [hits.get(key) or fresh[key] for key in keys]
        return EmbedResult(
            info=model.info,
            vectors=_encode(vectors, request, version),
            encoding=request.encoding,
            tokens=[one.tokens for one in inputs],
            truncated=[one.truncated for one in inputs],
            readings=[version.readability.judge(one.reading) for one in inputs],
            cached_inputs=sum(key in hits for key in keys) if hits else 0,
            timings=Timings(computed.queue, pipeline.preprocess_seconds, computed.inference),
        )

    async def rerank(self, request: RerankRequest) -> RerankResult:
        """Score texts with a cross-encoder, which reads each text together with the query.

        Raises:
            InvalidArgument: the request is not valid, or the model is not a cross-encoder.
            FailedPrecondition: no cross-encoder is configured.
            NotFound, Overloaded, Unavailable, DeadlineExceeded: as for ``embed``.
        """
        requests.validate_rerank(request)
        with await self._registry.current_version(request.model, "pair") as version:
            if "pair" not in version.model.info.modalities:
                raise requests.wrong_modality(version.model.info, "text pair", "model")
            return await self._rerank(version, request)

    async def _rerank(self, version: ModelVersion, request: RerankRequest) -> RerankResult:
        model, batcher, bulk = version.model, version.batcher, request.bulk
        batcher.check_admission(len(request.texts), bulk=bulk, timeout=deadlines.time_left())
        pairs = list(zip(repeat(request.query), request.texts))
        started_at = time.perf_counter()
        loop = asyncio.get_running_loop()
        with batcher.metrics.utilisation.demand(len(pairs)):
            prepared = await loop.run_in_executor(
                self._pool_for(bulk=bulk), model.prepare, pairs, ""
            )
            preprocess_seconds = time.perf_counter() - started_at
            batcher.metrics.record_request(len(pairs), 0, preprocess_seconds)
            computed = await batcher.submit(prepared, bulk=bulk, timeout=deadlines.time_left())
        return RerankResult(
            info=model.info,
            scores=computed.vectors[:, 0].tolist(),
            truncated=[one.truncated for one in prepared],
            timings=Timings(computed.queue, preprocess_seconds, computed.inference),
        )

    async def tokenize(self, name: str, texts: Sequence[str]) -> tuple[ModelInfo, list[Tokens]]:
        """Return the model and the tokens of each text.

        Raises:
            InvalidArgument: there are no texts or too many, or the model does not take text.
            NotFound: there is no such model.
            Unavailable: the model is not loaded.
        """
        requests.validate_count(texts, "texts")
        with await self._registry.current_version(name) as version:
            model = version.model
            if "text" not in model.info.modalities:
                raise requests.wrong_modality(model.info, "text", "model")
            tokens = await asyncio.get_running_loop().run_in_executor(
                self._pool, lambda: list(map(model.tokenize, texts))
            )
            return model.info, tokens

    async def feature_maps(self, name: str, image: bytes, max_channels: int) -> FeatureMaps:
        """Return what each layer of a network computes from an image file. Nothing is stored.

        Raises:
            InvalidArgument: the image cannot be decoded, or ``max_channels`` is out of range.
            FailedPrecondition: the model does not show its layers.
            NotFound: there is no such model.
            Unavailable: the model is not loaded.
        """
        channels = feature_maps.validate_channels(max_channels)
        with await self._registry.current_version(name, "image") as version:
            info = version.model.info
            model = feature_maps.layered(version.model, info)
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, feature_maps.compute, model, info, image, channels
            )

    async def detokenize(
        self, name: str, token_ids: Sequence[Sequence[int]]
    ) -> tuple[ModelInfo, list[str]]:
        """Return the model and the texts of token ids.

        Raises:
            InvalidArgument: there are no ids or too many, the vocabulary lacks one, or the model
                does not take text.
            NotFound: there is no such model.
            Unavailable: the model is not loaded.
        """
        requests.validate_count(token_ids, "token_ids")
        with await self._registry.current_version(name) as version:
            model = version.model
            if "text" not in model.info.modalities:
                raise requests.wrong_modality(model.info, "text", "model")
            texts = await asyncio.get_running_loop().run_in_executor(
                self._pool, lambda: [_detokenize(model, *one) for one in enumerate(token_ids)]
            )
            return model.info, texts

    def _keys(self, info: ModelInfo, request: EmbedRequest) -> Sequence[Hashable]:
        """Return keys that are equal for equal inputs, or without a cache the inputs themselves."""
        if self._cache is None:
            return request.inputs
        return cache_keys(info.digest, request.task, request.inputs)

    def _pool_for(self, *, bulk: bool) -> ThreadPoolExecutor:
        return self._bulk_pool if bulk else self._pool


def _merge(
    keys: Sequence[Hashable],
    hits: dict[Hashable, CachedVector],
    fresh: dict[Hashable, PreparedInput],
    computed: Computed,
) -> Vectors:
    """Return the vectors of all keys, float32 [n, d]."""
    if len(fresh) == len(keys):
        return computed.vectors
    by_key = dict(zip(fresh, computed.vectors, strict=True))
    return np.stack([by_key[key] if key in by_key else hits[key].vector for key in keys])


def _detokenize(model: Model, index: int, ids: Sequence[int]) -> str:
    try:
        return model.detokenize(ids)
    except KeyError as error:
        raise InvalidArgument(
            "UNKNOWN_TOKEN",
            f"The vocabulary of {model.info.name} has no token {error.args[0]}.",
            field=f"token_ids[{index}]",
        ) from error


def _encode(vectors: Vectors, request: EmbedRequest, version: ModelVersion) -> EncodedVectors:
    vectors = encodings.truncate_dimensions(
        vectors, request.dimensions, normalize=request.normalize
    )
    scale = version.scales.scale(request.dimensions, normalize=request.normalize)
    return encodings.encode(vectors, request.encoding, scale)
