from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.passages import Span, passages, sentences

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


@given(st.text(alphabet="ab .\n?!é", max_size=400), st.integers(10, 60))
def test_passages_cover_the_text_in_order_and_keep_to_the_limit(text: str, limit: int) -> None:
    spans = passages(text, limit)
    assert all(0 < span.end - span.start <= limit for span in spans)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    covered = {place for span in spans for place in range(span.start, span.end)}
    assert all(letter.isspace() for place, letter in enumerate(text) if place not in covered)


def test_a_span_is_counted_in_code_points() -> None:
    assert Span(1, 3).of("a🐈b") == "🐈b"
