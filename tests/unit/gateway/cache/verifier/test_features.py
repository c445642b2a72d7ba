import random

import pytest

from services.gateway.cache.verifier.features import (
    FEATURE_NAMES,
    contradiction,
    feature_row,
    lexical_features,
    longest_common_subsequence,
)
from services.gateway.cache.verifier.lexical_text import LexicalText


def features(one: str, other: str) -> dict[str, float]:
    row = lexical_features(LexicalText(one), LexicalText(other), lambda _: 1.0)
    return dict(zip(FEATURE_NAMES, row, strict=True))


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ("Turn dark mode on", "Turn dark mode off", "opposite"),
        ("What is 1+1?", "What is 21+1?", "number"),
        ("Weather in 2019", "Weather in 2020", "number"),
        ("I have two cats", "I have three cats", "number"),
        ("Can I eat it?", "Can I not eat it?", "negation"),
        ("It isn't open", "It is open", "negation"),
        ("Why can't I not go?", "Why can't I go?", "negation"),
        ("How do I reset my password?", "How can I reset a password?", ""),
        ("Population of 1,000 towns", "population of 1000 towns", ""),
    ],
)
def test_contradictions_are_named(one: str, other: str, difference: str) -> None:
    left, right = LexicalText(one), LexicalText(other)
    assert contradiction(left, right) == contradiction(right, left) == difference


def test_features_are_symmetric() -> None:
    one, other = "Is 5 km in Paris far, or --max-cost?", "how far is Berlin from 6 miles"
    row = features(one, other)
    assert features(other, one) == row
    assert row["number"] == row["unit"] == row["identifier"] == row["question_word"] == 1
    assert row["names_overlap"] == 0


def test_equal_texts_overlap_wholly() -> None:
    text = "Is 5 km in Paris far, or --max-cost?"
    row = features(text, text)
    assert row["overlap"] == row["contained"] == row["trigrams"] == row["common_order"] == 1
    assert row["number"] == row["negation"] == row["opposite"] == row["missing_max"] == 0


def test_a_contained_text_misses_nothing_on_one_side() -> None:
    row = features("reset router", "reset slow router")
    assert (row["missing_min"], row["missing_max"], row["contained"]) == (0, 1, 1)
    assert row["overlap"] == pytest.approx(2 / 3)


def test_swapped_words_are_seen() -> None:
    row = features("Paris from Berlin", "Berlin from Paris")
    assert (row["overlap"], row["swapped"]) == (1, 1)
    assert row["common_order"] < 1


def test_rare_words_weigh_more() -> None:
    def rarity(word: str) -> float:
        return 5.0 if word == "quux" else 1.0

    row = lexical_features(LexicalText("quux router"), LexicalText("router"), rarity)
    assert dict(zip(FEATURE_NAMES, row, strict=True))["missing_max"] == 5


def test_empty_texts_have_finite_features() -> None:
    row = feature_row(LexicalText(""), LexicalText("reset"), 0.5, lambda _: 1.0)
    assert len(row) == len(FEATURE_NAMES) + 2
    assert row[-2:].tolist() == [0.5, 0.0625]
    assert all(abs(value) <= 10 for value in row)


@pytest.mark.parametrize(
    ("left", "right", "length"), [("abcde", "badce", 3), ("abc", "", 0), ("aab", "ab", 2)]
)
def test_the_longest_common_subsequence(left: str, right: str, length: int) -> None:
    assert longest_common_subsequence(list(left), list(right)) == length


def test_the_longest_common_subsequence_agrees_with_the_usual_table() -> None:
    def by_table(left: list[str], right: list[str]) -> int:
        table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
        for row, word in enumerate(left, 1):
            for column, other in enumerate(right, 1):
                table[row][column] = (
                    table[row - 1][column - 1] + 1
                    if word == other
                    else max(table[row - 1][column], table[row][column - 1])
                )
        return table[-1][-1]

    rng = random.Random(1)
    for _ in range(200):
        left, right = ([*rng.choices("abcdef", k=rng.randrange(70))] for _ in range(2))
        assert longest_common_subsequence(left, right) == by_table(left, right)
