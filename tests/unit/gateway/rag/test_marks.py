from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.rag.marks import MarkFilter, find_marks

ALPHABET = "ab [](12.,-`\n【】"


def filtered(pieces: list[str], passages: int = 2) -> tuple[str, int]:
    marks = MarkFilter(passages)
    text = "".join(map(marks.feed, pieces)) + marks.flush()
    return text, marks.dropped


def test_marks_that_name_no_passage_are_dropped_and_counted() -> None:
    assert filtered(["A door [1] opens [3]. It [0] shuts [12345] [2]."]) == (
        "A door [1] opens . It  shuts [12345] [2].",
        2,
    )


@given(st.text(alphabet=ALPHABET, max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_the_result_does_not_depend_on_the_pieces(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert filtered(pieces) == filtered([text])


@pytest.mark.parametrize(
    ("text", "normal", "dropped"),
    [
        ("It opens [1, 2].", "It opens [1][2].", 0),
        ("It opens [1-3].", "It opens [1][2][3].", 0),
        ("It opens [1;3–4].", "It opens [1][3][4].", 0),
        ("开【1】。", "开[1]。", 0),
        ("It opens [2, 9].", "It opens [2].", 1),
        ("It opens[9].", "It opens[9].", 0),
        ("It opens [9].", "It opens .", 1),
    ],
)
def test_groups_and_ranges_become_single_marks(text: str, normal: str, dropped: int) -> None:
    assert filtered([text], 4) == (normal, dropped)
    assert filtered([*text], 4) == (normal, dropped)


@pytest.mark.parametrize(
    "text",
    [
        "Use list[0] in Python [1].",
        "Array a[10] is fine [2].",
        "Call `get([9])` [1].",
        "So:\n```python\nx = [9]\n```\nIt works [1].",
        "It lies in [0, 10] and [1990-1995] [2].",
    ],
)
def test_code_and_intervals_stay(text: str) -> None:
    assert filtered([text]) == (text, 0)
    assert filtered([*text]) == (text, 0)


def test_marks_are_found_outside_code() -> None:
    text = "`[1]` is [1], not [0] or [3].\n```\n[2]"
    assert [(one.span.of(text), one.number) for one in find_marks(text, 2)] == [("[1]", 1)]
