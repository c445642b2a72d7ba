import pytest

from services.gateway.rag.ingest.parsers import records
from services.gateway.rag.ingest.parsers.builder import ExtractBuilder


def table(*rows: list[str]) -> list[str]:
    built = ExtractBuilder()
    records.add_table(built, rows)
    return built.build().text.split("\n")


def test_each_row_names_its_values_by_the_header() -> None:
    assert table(["Plan", "Price:"], ["Basic", "10 EUR"], [" "], ["Pro", "", "note"]) == [
        "Plan: Basic | Price: 10 EUR",
        "Plan: Pro | note",
    ]


def test_notes_may_stand_above_the_header() -> None:
    assert table(["Prices of 2026"], [], ["Plan", "Price"], ["Pro", "30"]) == [
        "Prices of 2026",
        "",
        "Plan: Pro | Price: 30",
    ]


@pytest.mark.parametrize("number", ["1", "-1.5", "10 %", "€ 30", "2026-01-02", "(1,000)"])
def test_a_table_may_have_no_header(number: str) -> None:
    assert table(["a", number], ["b", "2"]) == [f"a | {number}", "b | 2"]
    assert table(["a", "a"], ["b", "c"]) == ["a | a", "b | c"]
    assert table(["a", "b"]) == ["a | b"]
    assert table(["a"], ["b"]) == ["a", "b"]
    assert table() == [""]


def test_a_long_record_becomes_paragraphs() -> None:
    built = ExtractBuilder()
    text = "A sentence.\n" * 100
    records.add_table(built, [["Title", "Text"], ["One", "Two"], ["Three", text], ["Four", "Five"]])
    extract = built.build()
    assert [(one.by_lines, extract.text[one.start : one.end]) for one in extract.blocks] == [
        (True, "Title: One | Text: Two"),
        (False, "Title: Three"),
        (False, f"Text: {text.strip()}"),
        (True, "Title: Four | Text: Five"),
    ]


def test_many_rows_make_several_blocks() -> None:
    built = ExtractBuilder()
    records.add_table(built, ([str(number), "x" * 90] for number in range(3_000)))
    assert 1 < len(built.blocks) < 10
    assert built.build().text.count("| x") == 3_000
