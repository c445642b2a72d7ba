import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.rag.ingest import segmentation
from services.gateway.rag.ingest.segmentation import Span, lines, sentences
from tests.operations import count_calls

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


def test_sentences_of_chinese_and_japanese_end_without_white_space() -> None:
    text = "你好。再见！真的吗？！「是的。」他说。これはペンです。(はい。) 次"
    assert [span.of(text) for span in sentences(text)] == [
        "你好。",
        "再见！",
        "真的吗？！",
        "「是的。」",
        "他说。",
        "これはペンです。",
        "(はい。)",
        "次",
    ]


def test_an_abbreviation_is_a_word_of_its_own() -> None:
    text = "It is approx. Five. They saw xapprox. Five more. It cost No. 5 and 5 etc. So."
    assert [span.of(text) for span in sentences(text)] == [
        "It is approx. Five.",
        "They saw xapprox.",
        "Five more.",
        "It cost No. 5 and 5 etc. So.",
    ]


class CountingPattern:
    """Counts the characters that searches of a pattern may read."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern = pattern
        self.characters = 0

    def search(self, text: str, start: int, end: int) -> re.Match[str] | None:
        self.characters += end - start
        return self.pattern.search(text, start, end)


@pytest.mark.parametrize("unit", ["J. ", "No. 5 ", "A. ", "e.g. A ", "Dr. No. J. ", "。", '." '])
def test_the_work_grows_with_the_length(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CountingPattern(segmentation._ABBREVIATION)
    monkeypatch.setattr(segmentation, "_ABBREVIATION", counter)

    def work(count: int) -> tuple[int, int]:
        counter.characters = 0
        return count_calls(lambda: sentences(unit * count)), counter.characters

    for small, large in zip(work(1_000), work(4_000), strict=True):
        assert large <= 4 * small + 100


@given(st.text(alphabet='aJNo. 5Dr\n?!é。」"', max_size=400))
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


@pytest.mark.parametrize(
    "text",
    [
        "दिल्ली भारत की राजधानी है। यह बड़ा शहर है।",
        "ما هي العاصمة؟ الجواب هنا.",
        "یہ شہر بڑا ہے۔ لوگ بہت ہیں۔",
        "ភ្នំពេញជារាជធានី។ ទីក្រុងធំ។",
        "東京は首都です。人口は多い！",
    ],
)
def test_full_stops_of_many_scripts_end_sentences(text: str) -> None:
    assert len(sentences(text)) == 2
