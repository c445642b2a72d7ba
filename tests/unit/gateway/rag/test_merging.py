from typing import Any

import pytest

from services.gateway.rag.merging import MAX_MERGED_CHUNKS, merge_adjacent
from services.gateway.rag.types import Passage
from tests.fakes.passages import passage

SOURCE = "One is here. Two is there.\n\nThree is gone. Four stays."


def chunk(start: int, end: int, number: int, similarity: float = 0.5, **more: Any) -> Passage:
    return passage(
        SOURCE[start:end],
        chunk=f"d#{number}",
        start=start,
        end=end,
        first=number,
        last=number,
        score=similarity,
        similarity=similarity,
        **more,
    )


def merge(*chunks: Passage) -> list[Passage]:
    return merge_adjacent(chunks, lambda similarity, text_score: similarity + text_score)


def test_chunks_merge_across_white_space_and_overlaps() -> None:
    [merged] = merge(chunk(28, 42, 1), chunk(0, 26, 0, gap="\n\n"), chunk(28, 54, 2))
    assert merged.text == SOURCE[merged.start : merged.end] == SOURCE
    assert (merged.first, merged.last) == (0, 2)


def test_a_merged_passage_has_the_best_of_its_chunks() -> None:
    [merged] = merge(
        chunk(0, 26, 0, 0.3, gap="\n\n", text_score=2.0, section="A", page=1),
        chunk(28, 54, 1, 0.9, text_score=1.0, section="B", page=2, gap=" "),
    )
    assert (merged.chunk, merged.similarity, merged.text_score) == ("d#1", 0.9, 2.0)
    assert merged.score == pytest.approx(2.9)
    assert (merged.section, merged.page, merged.gap) == ("B", 2, " ")


@pytest.mark.parametrize(
    "other",
    [
        chunk(28, 54, 2),
        chunk(28, 54, 1, document="e"),
        chunk(28, 54, 1, version="w"),
    ],
)
def test_chunks_that_do_not_follow_each_other_stay_apart(other: Passage) -> None:
    assert len(merge(chunk(0, 26, 0, gap="\n\n"), other)) == 2


def test_text_between_two_chunks_keeps_them_apart() -> None:
    assert len(merge(chunk(0, 12, 0, gap=None), chunk(28, 54, 1))) == 2


def test_the_number_of_merged_chunks_is_bounded() -> None:
    chunks = [chunk(number, number + 1, number, gap="") for number in range(7)]
    sizes = [one.last - one.first + 1 for one in merge(*chunks)]
    assert sizes == [MAX_MERGED_CHUNKS, MAX_MERGED_CHUNKS, 1]
