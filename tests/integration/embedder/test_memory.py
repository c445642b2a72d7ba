"""An embedder that remembers, over a real model."""

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from services.embedder.registry import Models, Spec
from services.embedder.requests import Order
from services.embedder.service import Embedded, Embedding
from services.errors import InvalidArgument


@pytest.fixture
async def embedding() -> AsyncIterator[Embedding]:
    spec = Spec(
        DEFAULT_TEXT_MODEL,
        frozenset({"text"}),
        lambda: SentenceTransformerModel.load(DEFAULT_TEXT_MODEL),
    )
    async with Models([spec], 100_000) as models:
        await models.find("").loaded.wait()
        embedding = Embedding(models, 2**20)
        yield embedding
        embedding.close()


def rows(reply: Embedded) -> Any:
    return np.frombuffer(reply.packed.data, "<f4").reshape(-1, reply.packed.dimensions)


async def test_remembered_vectors_are_the_computed_ones(embedding: Embedding) -> None:
    first = await embedding.embed(Order(["a cat", "a dog", "a cat"]))
    again = await embedding.embed(Order(["a dog", "a bird", "a cat"]))
    assert (first.recalled, again.recalled) == (0, 2)
    assert first.tokens == [4, 4, 4] == again.tokens
    assert (rows(first)[0] == rows(first)[2]).all()
    assert (rows(again)[[0, 2]] == rows(first)[[1, 0]]).all()
    assert abs(float(rows(again)[1] @ rows(again)[0])) < 0.99
    whole = await embedding.embed(Order(["a cat", "a dog"]))
    assert (whole.recalled, whole.times.inference) == (2, 0)


async def test_cuts_share_an_entry_and_tasks_do_not(embedding: Embedding) -> None:
    await embedding.embed(Order(["a cat"], dimensions=64))
    whole = await embedding.embed(Order(["a cat"]))
    assert (whole.recalled, rows(whole).shape) == (1, (1, 384))
    assert (await embedding.embed(Order(["a cat"], task="query"))).recalled == 0


async def test_a_remembered_text_that_was_cut_is_still_refused(embedding: Embedding) -> None:
    long = "word " * 500
    assert (await embedding.embed(Order([long]))).truncated == [True]
    assert (await embedding.embed(Order([long]))).truncated == [True]
    with pytest.raises(InvalidArgument, match="256 tokens"):
        await embedding.embed(Order([long], truncate=False))


async def test_a_text_has_the_same_int8_bytes_in_every_batch(embedding: Embedding) -> None:
    alone = await embedding.embed(Order(["a cat"], encoding="int8"))
    batch = await embedding.embed(Order(["a dog", "a cat", "a far away land"], encoding="int8"))
    assert batch.packed.scale == alone.packed.scale
    assert batch.packed.data[384 : 2 * 384] == alone.packed.data
