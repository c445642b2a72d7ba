"""An embedder that remembers, over a real model."""

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


@pytest.fixture
async def service() -> AsyncIterator[EmbeddingService]:
    spec = ModelSpec(
        DEFAULT_TEXT_MODEL,
        frozenset({"text"}),
        lambda: SentenceTransformerModel.load(DEFAULT_TEXT_MODEL),
    )
    async with ModelRegistry([spec], 100_000) as registry:
        await registry.find("").load_finished.wait()
        service = EmbeddingService(registry, 2**20)
        yield service
        service.close()


def rows(reply: EmbedResult) -> Any:
    return np.frombuffer(reply.vectors.data, "<f4").reshape(-1, reply.vectors.dimensions)


async def test_no_store_keeps_vectors_out_of_the_cache(service: EmbeddingService) -> None:
    assert (await service.embed(EmbedRequest(["a cat"], no_store=True))).cached_inputs == 0
    assert (await service.embed(EmbedRequest(["a cat"]))).cached_inputs == 0
    again = await service.embed(EmbedRequest(["a cat", "a dog"], no_store=True))
    assert again.cached_inputs == 1
    assert (await service.embed(EmbedRequest(["a dog"]))).cached_inputs == 0


async def test_remembered_vectors_are_the_computed_ones(service: EmbeddingService) -> None:
    first = await service.embed(EmbedRequest(["a cat", "a dog", "a cat"]))
    again = await service.embed(EmbedRequest(["a dog", "a bird", "a cat"]))
    assert (first.cached_inputs, again.cached_inputs) == (0, 2)
    assert first.tokens == [4, 4, 4] == again.tokens
    assert (rows(first)[0] == rows(first)[2]).all()
    assert (rows(again)[[0, 2]] == rows(first)[[1, 0]]).all()
    assert abs(float(rows(again)[1] @ rows(again)[0])) < 0.99
    whole = await service.embed(EmbedRequest(["a cat", "a dog"]))
    assert (whole.cached_inputs, whole.timings.inference) == (2, 0)


async def test_cuts_share_an_entry_and_tasks_do_not(service: EmbeddingService) -> None:
    await service.embed(EmbedRequest(["a cat"], dimensions=64))
    whole = await service.embed(EmbedRequest(["a cat"]))
    assert (whole.cached_inputs, rows(whole).shape) == (1, (1, 384))
    assert (await service.embed(EmbedRequest(["a cat"], task="query"))).cached_inputs == 0


async def test_a_remembered_text_that_was_cut_is_still_refused(service: EmbeddingService) -> None:
    long = "word " * 500
    assert (await service.embed(EmbedRequest([long]))).truncated == [True]
    assert (await service.embed(EmbedRequest([long]))).truncated == [True]
    with pytest.raises(InvalidArgument, match="256 tokens"):
        await service.embed(EmbedRequest([long], truncate=False))


async def test_a_text_has_the_same_int8_bytes_in_every_batch(service: EmbeddingService) -> None:
    alone = await service.embed(EmbedRequest(["a cat"], encoding="int8"))
    batch = await service.embed(
        EmbedRequest(["a dog", "a cat", "a far away land"], encoding="int8")
    )
    assert batch.vectors.scale == alone.vectors.scale
    assert batch.vectors.data[384 : 2 * 384] == alone.vectors.data
