import numpy as np
import pytest

from services.embedder.models.runtime_selection import derived_digest
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import (
    MAX_PROBABILITY_IF_DIFFERENT,
    UNKNOWN,
    WEIGHTS,
    Question,
    Verifier,
    probability_from_cosine,
)


@pytest.fixture(scope="module")
def verifier() -> Verifier:
    return Verifier.load()


RUNTIMES = (
    ("openvino", "bfloat16"),
    ("openvino", "int8"),
    ("torch", "bfloat16"),
    ("cuda", "float16"),
    ("cuda", "bfloat16"),
)


def question(text: str) -> Question:
    return Question(LexicalText(text))


def test_words_decide_where_vectors_are_equally_near(verifier: Verifier) -> None:
    def probability(one: str, other: str) -> float:
        return verifier.probability(question(one), question(other), 0.9)

    asked = "How do I reset my password?"
    same = probability(asked, "How can I reset my password?")
    for other in ("How do I reset 3 passwords?", "How do I never reset my password?"):
        assert probability(asked, other) < same
    assert probability("Who is Bob?", asked) == probability(asked, "Who is Bob?")


@pytest.mark.parametrize(
    ("one", "other", "similarity", "rejected"),
    [
        ("How do I turn dark mode on?", "How do I turn dark mode off?", 0.9, True),
        ("What is 1 + 1?", "What is 21 + 1?", 0.9, True),
        ("How do I turn dark mode on?", "How can I turn dark mode on?", 0.9, False),
        ("Turn dark mode on", "Turn dark mode off", 0.5, True),  # contradictions at every cosine
        ("How do I bake bread?", "Who won the chess game?", 0.9, True),
        ("How do I bake bread?", "Who won the chess game?", 0.5, False),  # far: the bound decides
    ],
)
def test_contradictions_and_unlikely_near_questions_are_rejected(
    verifier: Verifier, one: str, other: str, similarity: float, rejected: bool
) -> None:
    assert verifier.judge(question(one), question(other), similarity).rejected is rejected


def test_the_probability_of_texts_that_differ_is_low(verifier: Verifier) -> None:
    one, other = question("flights from Paris to London"), question("flights from London to Paris")
    judgement = verifier.judge(one, other, 0.99)
    assert judgement.contradicts
    assert judgement.probability <= MAX_PROBABILITY_IF_DIFFERENT
    assert verifier.probability(one, other, 0.99) > MAX_PROBABILITY_IF_DIFFERENT


def test_the_verifier_does_not_know_other_languages_and_long_texts(verifier: Verifier) -> None:
    long = "what is the price of it " * 100
    for one, other in (("как включить тему", "как выключить тему"), (long, long + "now")):
        judgement = verifier.judge(question(one), question(other), 1.0)
        assert (judgement.probability, judgement.contradicts) == (UNKNOWN, True)
    left, right = question(long), question(long.upper())
    same = verifier.judge(left, right, 1.0)
    assert vars(left.text).keys() == vars(right.text).keys() == {"raw"}  # nothing was computed
    assert same.probability == probability_from_cosine(1.0)
    assert not same.rejected


def test_the_networks_take_vectors_of_their_own_model_only(verifier: Verifier) -> None:
    with np.load(WEIGHTS, allow_pickle=False) as arrays:
        digest = str(arrays["digest"])
    texts = LexicalText("How do I reset my password?"), LexicalText("Can a router be reset?")
    rows = np.random.default_rng(0).standard_normal((2, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    def probability(digest: str) -> float:
        one, other = (Question(text, row, digest) for text, row in zip(texts, rows, strict=True))
        return verifier.probability(one, other, 0.9)

    by_words = verifier.probability(Question(texts[0]), Question(texts[1]), 0.9)
    assert probability("other") == by_words
    assert probability(digest) != by_words
    for runtime, dtype in RUNTIMES:
        assert probability(derived_digest(digest, runtime, dtype)) == probability(digest)


def test_the_shipped_weights_are_small_and_have_a_card() -> None:
    assert WEIGHTS.stat().st_size < 3 * 2**20
    assert "held-out pairs" in (WEIGHTS.parent / "README.md").read_text()


def test_the_probability_rises_with_the_cosine() -> None:
    values = [probability_from_cosine(cosine / 10) for cosine in range(-10, 11)]
    assert values == sorted(values)
    assert 0 < values[0] < 0.01
    assert 0.8 < values[-1] < 1
