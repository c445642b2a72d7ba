from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.rag.citations import MarkFilter

ALPHABET = "ab [](12."


def filtered(pieces: list[str], given_: int = 2) -> tuple[str, int]:
    marks = MarkFilter(given_)
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
