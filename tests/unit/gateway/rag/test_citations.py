from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.rag.citations import MarkFilter, cite, cite_marks
from services.gateway.rag.ingest.segmentation import Span
from tests.fakes.passages import passage

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


def cited(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The document and the statement of each citation, and the unsupported sentences."""
    passages = [passage("A door opens.", "a", start=100), passage("It shuts.", "b")]
    citations, unsupported = cite_marks(text, passages)
    return (
        [(one.document, text[one.start : one.end]) for one in citations],
        [span.of(text) for span in unsupported],
    )


def test_a_mark_cites_its_sentence() -> None:
    assert cited("It opens [1]. It shuts [2][1]. Nobody knows.") == (
        [("a", "It opens [1]."), ("b", "It shuts [2][1]."), ("a", "It shuts [2][1].")],
        ["Nobody knows."],
    )


def test_marks_after_a_full_stop_belong_to_the_sentence_before() -> None:
    assert cited("It opens. [1] It shuts. [2], [1].") == (
        [("a", "It opens. [1]"), ("b", "It shuts. [2], [1]."), ("a", "It shuts. [2], [1].")],
        [],
    )


def test_marks_at_the_beginning_cite_what_follows() -> None:
    assert cited("[2] It shuts.") == ([("b", "[2] It shuts.")], [])
    assert cited("") == ([], [])


def test_a_citation_quotes_the_place_in_the_document() -> None:
    citation = cite(passage("A door opens.", "a", start=100), Span(2, 6), Span(7, 9))
    assert (citation.quote, citation.source_start, citation.source_end) == ("door", 102, 106)
    assert (citation.start, citation.end, citation.chunk) == (7, 9, "a#0")
