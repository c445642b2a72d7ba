from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.rag.ingest.segmentation import Span, lines, sentences

TEXT = (
    "Dr. Smith met J. R. Tolkien in 1950. They talked!  “Really?” he said.\n\n"
    "A new paragraph: e.g. this."
)


def test_sentences_end_where_a_reader_would_end_them() -> None:
    assert [span.of(TEXT) for span in sentences(TEXT)] == [
        "Dr. Smith met J. R. Tolkien in 1950.",
        "They talked!",
        "“Really?” he said.",
        "A new paragraph: e.g. this.",
    ]


@given(st.text(alphabet="ab .\n?!é", max_size=400))
def test_sentences_cover_the_text_in_order(text: str) -> None:
    check_cover(text, sentences(text))


@given(st.text(alphabet="ab \n\f\r", max_size=200))
def test_lines_cover_the_text_in_order(text: str) -> None:
    check_cover(text, lines(text, Span(0, len(text))))


def check_cover(text: str, spans: list[Span]) -> None:
    assert all(span.start < span.end for span in spans)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    covered = {place for span in spans for place in range(span.start, span.end)}
    assert all(letter.isspace() for place, letter in enumerate(text) if place not in covered)


def test_a_span_is_counted_in_code_points() -> None:
    assert Span(1, 3).of("a🐈b") == "🐈b"
