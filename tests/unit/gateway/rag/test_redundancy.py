import numpy as np
import pytest

from services.gateway.rag import redundancy
from services.gateway.rag.redundancy import diversify, without_duplicates
from services.gateway.rag.types import Passage
from tests.fakes.passages import passage

TEXT = "The quick brown fox jumps over the lazy dog and then it goes to sleep in the sun. " * 3


def documents(passages: list[Passage]) -> list[str]:
    return [one.document for one in passages]


async def test_a_near_duplicate_of_a_better_passage_is_dropped() -> None:
    ranked = [
        passage(TEXT, "a"),
        passage(TEXT.upper(), "b"),
        passage(TEXT.replace("fox", "cat").replace("lazy", "old"), "c"),
        passage(TEXT + "Well.", "d"),
    ]
    assert documents([one async for one in without_duplicates(ranked)]) == ["a", "c"]


async def test_a_part_of_a_passage_is_no_duplicate() -> None:
    long = " ".join(f"word{number}" for number in range(50))
    short = " ".join(f"word{number}" for number in range(20))
    ranked = [passage(long, "a"), passage(short, "b"), passage("word1", "c"), passage("word1", "d")]
    assert documents([one async for one in without_duplicates(ranked)]) == ["a", "b", "c"]


def ranked(*rows: list[float]) -> list[Passage]:
    """Passages with these vectors, scored 0.9, 0.8 and so on."""
    return [
        passage("x", chr(97 + n), score=0.9 - n / 10, vector=np.array(row, np.float32))
        for n, row in enumerate(rows)
    ]


async def test_diversity_prefers_what_differs_from_what_was_selected() -> None:
    passages = ranked([1, 0], [0.99, 0.14], [0, 1])
    assert documents(await diversify(passages, 2, 0.0)) == ["a", "b"]
    assert documents(await diversify(passages, 2, 0.6)) == ["a", "c"]
    assert documents(await diversify(passages, 3, 0.6)) == ["a", "c", "b"]


async def test_a_passage_is_compared_with_all_that_were_selected() -> None:
    passages = ranked([1, 0, 0], [0.99, 0.14, 0], [0, 1, 0], [0.5, 0.5, 0.707])
    assert documents(await diversify(passages, 3, 0.6)) == ["a", "c", "d"]


async def test_few_passages_are_all_selected() -> None:
    assert documents(await diversify(ranked([1, 0]), 5, 0.5)) == ["a"]
    assert await diversify([], 5, 0.5) == []


async def test_duplicates_are_found_among_many_with_the_same_opening() -> None:
    opening = " ".join(f"clause{number}" for number in range(60))
    texts = [
        opening + " " + " ".join(f"word{number}-{one}" for one in range(60))
        for number in range(200)
    ]
    ranked = [passage(text, str(number)) for number, text in enumerate(texts)]
    again = [passage(text + " end", f"{number} again") for number, text in enumerate(texts)]
    assert [one async for one in without_duplicates([*ranked, *again])] == ranked


async def test_the_work_for_a_passage_does_not_grow_with_the_number_of_passages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = 0
    resemblance = redundancy._resemblance

    def counted(one: set[int], other: set[int]) -> float:
        nonlocal compared
        compared += 1
        return resemblance(one, other)

    monkeypatch.setattr(redundancy, "_resemblance", counted)
    opening = " ".join(f"clause{number}" for number in range(100))
    ranked = [
        passage(opening + " " + " ".join(f"word{number}-{one}" for one in range(40)), str(number))
        for number in range(300)
    ]
    assert len([one async for one in without_duplicates(ranked)]) == 300
    assert compared <= 300 * redundancy.MAX_COMPARED
