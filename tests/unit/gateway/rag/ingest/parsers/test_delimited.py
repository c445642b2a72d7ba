import pytest

from services.gateway.rag.ingest.parsers import delimited


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_detected(delimiter: str) -> None:
    rows = [["Plan", "Price"], ["Basic", '"10, or 12"'], ["Pro", '"30\r\nEUR"']]
    content = "\r\n".join(delimiter.join(row) for row in rows)
    assert delimited.parse(content.encode()).text.split("\n") == [
        "Plan: Basic | Price: 10, or 12",
        "Plan: Pro | Price: 30 EUR",
    ]


def test_excel_declares_the_delimiter() -> None:
    assert delimited.parse(b"sep=;\na,b;c\nd,e;f\n").text == "a,b: d,e | c: f"


def test_tabs_divide_values() -> None:
    assert delimited.parse_tabs(b"a,b\tc;d\ne,f\tg;h\n").text == "a,b: e,f | c;d: g;h"


def test_a_table_has_a_charset() -> None:
    content = "Plan,Preis\nPro,30 €\n".encode("cp1252")
    assert delimited.parse(content, "windows-1252").text == "Plan: Pro | Preis: 30 €"


@pytest.mark.parametrize("content", [b'a,"b\nc,d\n', b'"a"b,c\n"', b"a\0b,c\n", b"a,b\r\rc,d\r"])
def test_a_broken_table_loses_nothing(content: bytes) -> None:
    text = delimited.parse(content).text
    assert sorted(one for one in text if one in "abcd") == sorted(
        one for one in content.decode() if one in "abcd"
    )
