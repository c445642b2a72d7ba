"""The vector cache in front of a real model."""

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from services.embedder.registry import ModelRegistry, ModelSpec
from services.embedder.requests import EmbedRequest
from services.embedder.service import EmbeddingService, EmbedResult
from services.errors import InvalidArgument


@pytest.fixture(scope="module")
def model() -> SentenceTransformerModel:
    return SentenceTransformerModel.load(DEFAULT_TEXT_MODEL)


@pytest.fixture
async def service(model: SentenceTransformerModel) -> AsyncIterator[EmbeddingService]:
    spec = ModelSpec(DEFAULT_TEXT_MODEL, frozenset({"text"}), lambda: model)
    async with ModelRegistry([spec], 100_000) as registry:
        await registry.find("").load_finished.wait()
        service = EmbeddingService(registry, 2**20)
        yield service
        service.close()


def vectors(result: EmbedResult) -> Any:
    return np.frombuffer(result.vectors.data, "<f4").reshape(-1, result.vectors.dimensions)


async def test_cached_vectors_are_the_computed_ones(service: EmbeddingService) -> None:
    first = await service.embed(EmbedRequest(["a cat", "a dog", "a cat"]))
    again = await service.embed(EmbedRequest(["a dog", "a bird", "a cat"]))
    assert (first.cached_inputs, again.cached_inputs) == (0, 2)
    assert first.tokens == [4, 4, 4] == again.tokens
    assert (vectors(first)[0] == vectors(first)[2]).all()
    assert (vectors(again)[[0, 2]] == vectors(first)[[1, 0]]).all()
    assert abs(float(vectors(again)[1] @ vectors(again)[0])) < 0.99
    whole = await service.embed(EmbedRequest(["a cat", "a dog"]))
    assert (whole.cached_inputs, whole.timings.inference) == (2, 0)


async def test_a_cached_text_that_was_truncated_is_still_refused(service: EmbeddingService) -> None:
    long = "word " * 500
    for _ in range(2):
        assert (await service.embed(EmbedRequest([long]))).truncated == [True]
    with pytest.raises(InvalidArgument, match="256 tokens"):
        await service.embed(EmbedRequest([long], truncate=False))
