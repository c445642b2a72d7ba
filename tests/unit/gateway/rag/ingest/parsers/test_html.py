import pytest

from services.gateway.rag.ingest.parsers import html
from services.gateway.rag.ingest.parsers.extract import Extract, ParseError
from tests.hostile_documents import nested_html


def blocks(extract: Extract) -> list[tuple[str, str]]:
    return [(one.section, extract.text[one.start : one.end]) for one in extract.blocks]


def test_the_text_is_what_a_browser_shows() -> None:
    page = """<!DOCTYPE html><html><head><title> A
      page </title><style>p {}</style></head><body><nav>Home</nav><h1>Doors</h1>
      <p>They <b>open</b>
      and&nbsp;close.<br>Always.<script>alert(1)</script></p><ul><li>one<li>two</ul>
      <h2>Code</h2><pre>a
  b</pre><table><tr><td>1<td>2</tr></table><p hidden>secret</p>loose</body></html>"""
    extract = html.parse(page.encode())
    assert extract.title == "A page"
    assert blocks(extract) == [
        ("Doors", "Doors"),
        ("Doors", "They open and close. Always."),
        ("Doors", "one"),
        ("Doors", "two"),
        ("Doors › Code", "Code"),
        ("Doors › Code", "a\n  b"),
        ("Doors › Code", "1 | 2"),
        ("Doors › Code", "loose"),
    ]


def test_a_page_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ParseError) as caught:
        html.parse(nested_html(html.MAX_DEPTH + 1))
    assert caught.value.reason == "DOCUMENT_TOO_COMPLEX"
    assert html.parse(nested_html(html.MAX_DEPTH)).text == "deep"


@pytest.mark.parametrize(
    "flat",
    [
        "<p>a" * 20_000,
        "<ul>" + "<li>a" * 20_000 + "</ul>",
        "<script>" + "if (a<b) {}" * 20_000 + "</SCRIPT>x",
        "<!--" + "<div>" * 20_000 + "-->x",
        "<b>a</b>" * 20_000,
        "<br>a" * 20_000,
    ],
)
def test_many_elements_that_are_not_nested_are_parsed(flat: str) -> None:
    assert html.parse(flat.encode()).text


def test_an_unknown_charset_is_ignored() -> None:
    assert html.parse(b"<meta charset=undefined><p>caf\xe9").text == "café"
    assert html.parse(b"<meta charset=no-such><p>caf\xe9").text == "café"


def test_charsets_and_depth_are_handled() -> None:
    assert html.parse('<meta charset="iso-8859-1"><p>é'.encode("latin-1")).text == "é"
    assert html.parse(b"<div>" * 5_000 + b"deep").text == "deep"
