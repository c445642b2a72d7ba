import numpy as np

from services.gateway.rag.redundancy import diversify, without_duplicates
from services.gateway.rag.types import Passage
from tests.fakes.passages import passage

TEXT = "The quick brown fox jumps over the lazy dog and then it goes to sleep in the sun. " * 3


def documents(passages: list[Passage]) -> list[str]:
    return [one.document for one in passages]


def test_a_near_duplicate_of_a_better_passage_is_dropped() -> None:
    ranked = [
        passage(TEXT, "a"),
        passage(TEXT.upper(), "b"),
        passage(TEXT.replace("fox", "cat").replace("lazy", "old"), "c"),
        passage(TEXT + "Well.", "d"),
    ]
    assert documents(list(without_duplicates(ranked))) == ["a", "c"]


def test_a_part_of_a_passage_is_no_duplicate() -> None:
    long = " ".join(f"word{number}" for number in range(50))
    short = " ".join(f"word{number}" for number in range(20))
    ranked = [passage(long, "a"), passage(short, "b"), passage("word1", "c"), passage("word1", "d")]
    assert documents(list(without_duplicates(ranked))) == ["a", "b", "c"]


def ranked(*rows: list[float]) -> list[Passage]:
    """Passages with these vectors, scored 0.9, 0.8 and so on."""
    return [
        passage("x", chr(97 + n), score=0.9 - n / 10, vector=np.array(row, np.float32))
        for n, row in enumerate(rows)
    ]


def test_diversity_prefers_what_differs_from_what_was_selected() -> None:
    passages = ranked([1, 0], [0.99, 0.14], [0, 1])
    assert documents(diversify(passages, 2, 0.0)) == ["a", "b"]
    assert documents(diversify(passages, 2, 0.6)) == ["a", "c"]
    assert documents(diversify(passages, 3, 0.6)) == ["a", "c", "b"]


def test_a_passage_is_compared_with_all_that_were_selected() -> None:
    passages = ranked([1, 0, 0], [0.99, 0.14, 0], [0, 1, 0], [0.5, 0.5, 0.707])
    assert documents(diversify(passages, 3, 0.6)) == ["a", "c", "d"]


def test_few_passages_are_all_selected() -> None:
    assert documents(diversify(ranked([1, 0]), 5, 0.5)) == ["a"]
    assert diversify([], 5, 0.5) == []
