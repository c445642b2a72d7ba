from typing import Any

import numpy as np
import pytest

from services.errors import InvalidArgument
from services.gateway.backends.types import Vectors
from services.gateway.cache.comparison import MAX_CHARACTERS, PairComparison
from services.gateway.cache.types import Bound
from services.gateway.cache.verifier.model import Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier

BY_RATE = Bound(max_error_rate=0.03)


class Embedder:
    """Returns two unit vectors with a given cosine."""

    def __init__(self, similarity: float) -> None:
        self._rows = np.array([[1, 0], [similarity, (1 - similarity**2) ** 0.5]], np.float32)

    async def embed_queries(self, texts: list[str]) -> Vectors:
        assert len(texts) == 2
        return Vectors(self._rows, "fake", "digest")


def comparison(similarity: float, bound: Bound = BY_RATE) -> PairComparison:
    embedder: Any = Embedder(similarity)
    return PairComparison(embedder, PairVerifier(Verifier.load(), None), bound)


async def test_a_rewording_is_a_hit() -> None:
    pair = await comparison(0.99).compare(
        "How do I reset my password?", "How can I reset my password?"
    )
    assert pair.similarity == pytest.approx(0.99)
    assert pair.probability > 0.8
    assert (pair.is_hit, pair.contradicts, pair.difference) == (True, False, "")


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ("Flights from Paris to London", "Flights from London to Paris", "order"),
        ("Can I bring 2 bags?", "Can I bring 3 bags?", "number"),
        ("How do I open an account?", "How do I close an account?", "opposite"),
    ],
)
@pytest.mark.parametrize("bound", [BY_RATE, Bound(min_similarity=0.5)])
async def test_a_difference_is_named_and_is_no_hit(
    one: str, other: str, difference: str, bound: Bound
) -> None:
    pair = await comparison(0.99, bound).compare(one, other)
    assert (pair.is_hit, pair.contradicts, pair.difference) == (False, True, difference)


async def test_a_minimum_similarity_decides_if_it_is_the_bound() -> None:
    texts = "How do I reset my password?", "How can I reset my password?"
    assert (await comparison(0.91, Bound(min_similarity=0.9)).compare(*texts)).is_hit
    assert not (await comparison(0.89, Bound(min_similarity=0.9)).compare(*texts)).is_hit


async def test_distant_questions_are_no_hit() -> None:
    pair = await comparison(0.05).compare("What is a meme?", "How is the weather today?")
    assert not pair.is_hit
    assert not pair.contradicts
    assert pair.probability < 0.5


@pytest.mark.parametrize(
    ("one", "other", "reason", "field"),
    [
        (" ", "a", "EMPTY_PROMPT", "one"),
        ("a", "", "EMPTY_PROMPT", "other"),
        ("a", "b" * (MAX_CHARACTERS + 1), "PROMPT_TOO_LONG", "other"),
    ],
)
async def test_prompts_that_are_blank_or_too_long_are_refused(
    one: str, other: str, reason: str, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await comparison(0.9).compare(one, other)
    assert (refused.value.reason, refused.value.field) == (reason, field)
