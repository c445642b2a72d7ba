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


def rows(page: str) -> list[str]:
    return html.parse(page.encode()).text.splitlines()


@pytest.mark.parametrize("cell", ["<p>{}</p>", "<div>{}</div>", "<ul><li>{}</li></ul>", "{}<br>"])
def test_cells_with_blocks_keep_their_row(cell: str) -> None:
    table = "".join(
        f"<tr><td>{cell.format(plan)}</td><td>{cell.format(price)}</td></tr>"
        for plan, price in (("Plan", "Price"), ("Basic", "10 EUR"), ("Pro", "30 EUR"))
    )
    assert rows(f"<table>{table}</table>") == ["Plan | Price", "Basic | 10 EUR", "Pro | 30 EUR"]


def test_a_table_that_lays_out_a_page_is_no_row() -> None:
    page = """<table><tr><td>Menu<td><h1>Fees</h1><p>One euro.<p>Or two.
      <table><tr><td>Pro<td><p>30</table></table>After."""
    extract = html.parse(page.encode())
    assert blocks(extract) == [
        ("", "Menu"),
        ("Fees", "Fees"),
        ("Fees", "One euro."),
        ("Fees", "Or two."),
        ("Fees", "Pro | 30"),
        ("Fees", "After."),
    ]


@pytest.mark.parametrize(
    "hidden",
    [
        '<p style="display:none">x</p>',
        '<p style="color: red; DISPLAY : None !important">x</p>',
        '<div style="visibility:hidden"><p>x</div>',
        '<div aria-hidden="true">x</div>',
        "<div hidden>x</div>",
        "<dialog>x</dialog>",
        "<select><option>x</select>",
        "<textarea>x</textarea>",
        "<button>x</button>",
        "<svg><title>x</title><text>x</text></svg>",
        "<math><mi>x</mi></math>",
    ],
)
def test_what_is_not_shown_is_no_text(hidden: str) -> None:
    assert html.parse(f"<p>Oslo.</p>{hidden}<p>Bern.</p>".encode()).text == "Oslo.\n\nBern."


def test_what_is_shown_is_text() -> None:
    page = """<p style="display:block">a</p><p aria-hidden="false">b</p><dialog open>c</dialog>
      <div hidden="until-found">d</div><h2><button>How much?</button></h2><p>One euro.
      <details><summary>e</summary>f</details>"""
    assert html.parse(page.encode()).text.split() == "a b c d How much? One euro. e f".split()


def test_a_body_that_a_script_shows_is_text() -> None:
    assert html.parse(b'<body style="display:none" aria-hidden=true><p>Oslo.').text == "Oslo."


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<svg><title>Close icon</title></svg><h1>Parking</h1><p>Free.", "Parking"),
        ("<h2>Menu</h2><h1>Parking</h1><p>Free.", "Parking"),
        ("<h2>Parking</h2><p>Free.", "Parking"),
        ("<!-- saved --><html><head><title>Fees</title></head><body>x<h1>y</h1>", "Fees"),
        ("<title> </title><p>x", ""),
    ],
)
def test_the_title_is_that_of_the_page(page: str, title: str) -> None:
    assert html.parse(page.encode()).title == title


def test_charsets_are_declared_in_several_ways() -> None:
    page = "<p>Паром отходит в семь.</p>"
    assert html.parse(page.encode("koi8-r"), "koi8-r").text == "Паром отходит в семь."
    assert html.parse(("\ufeff" + page).encode("utf-16-le")).text == "Паром отходит в семь."
    for head in (
        '<?xml version="1.0" encoding="koi8-r"?>',
        '<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">',
        "<meta charset=koi8-r>",
    ):
        extract = html.parse((head + page).encode("koi8-r"))
        assert (extract.text, extract.warnings) == ("Паром отходит в семь.", [])
    assert html.parse(page.encode("koi8-r")).warnings
