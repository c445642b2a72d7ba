import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.gateway.rag.ingest.parsers import files, html, markdown, pdf, plain
from services.gateway.rag.ingest.parsers.extract import Extract
from tests.pdf import pdf as write_pdf

MARKDOWN = """---
title: The guide
year: 2012
published: 2020-01-02
tags: [cat, dog]
place: {lat: 1.5, lon: 2}
draft: true
author: {name: nobody}
---

# Guide to doors

Doors open. They close.

## Hinges

- one
- two

```python
def door():
    return "open"
```

| a | b |
|---|---|
| 1 | 2 |

Setext
------

Ünïcode 🐈 ends.
"""


def said(extract: Extract) -> list[tuple[str, str]]:
    return [(one.section, extract.text[one.start : one.end]) for one in extract.blocks]


def test_markdown_keeps_its_structure_and_its_places() -> None:
    extract = markdown.read(MARKDOWN.replace("\n", "\r\n").encode())
    assert extract.text == MARKDOWN
    assert said(extract) == [
        ("Guide to doors", "# Guide to doors"),
        ("Guide to doors", "Doors open. They close."),
        ("Guide to doors › Hinges", "## Hinges"),
        ("Guide to doors › Hinges", "- one\n- two"),
        ("Guide to doors › Hinges", '```python\ndef door():\n    return "open"\n```'),
        ("Guide to doors › Hinges", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("Guide to doors › Setext", "Setext\n------"),
        ("Guide to doors › Setext", "Ünïcode 🐈 ends."),
    ]
    assert [one.by_lines for one in extract.blocks] == [
        False,
        False,
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_a_front_matter_gives_title_and_fields() -> None:
    extract = markdown.read(MARKDOWN.encode())
    assert extract.title == "The guide"
    assert extract.fields == {
        "year": 2012.0,
        "published": 1577923200.0,
        "tags": ["cat", "dog"],
        "place": {"lat": 1.5, "lon": 2.0},
        "draft": "true",
    }
    assert extract.warnings == ["The front matter's 'author' is no field we can keep."]


@pytest.mark.parametrize(
    "front", ["---\n: [\n---\n", "---\n- a\n---\n", "---\na: !!python/x 1\n---\n"]
)
def test_a_bad_front_matter_costs_nothing_else(front: str) -> None:
    extract = markdown.read((front + "\nText.").encode())
    assert ("", "Text.") in said(extract)
    assert extract.fields == {}


def test_the_first_heading_is_a_title() -> None:
    assert markdown.read(b"Intro.\n\n# Title *here*\n").title == "Title *here*"


def test_html_says_what_a_browser_shows() -> None:
    page = """<!DOCTYPE html><html><head><title> A
      page </title><style>p {}</style></head><body><nav>Home</nav><h1>Doors</h1>
      <p>They <b>open</b>
      and&nbsp;close.<br>Always.<script>alert(1)</script></p><ul><li>one<li>two</ul>
      <h2>Code</h2><pre>a
  b</pre><table><tr><td>1<td>2</tr></table><p hidden>secret</p>loose</body></html>"""
    extract = html.read(page.encode())
    assert extract.title == "A page"
    assert said(extract) == [
        ("Doors", "Doors"),
        ("Doors", "They open and close. Always."),
        ("Doors", "one"),
        ("Doors", "two"),
        ("Doors › Code", "Code"),
        ("Doors › Code", "a\n  b"),
        ("Doors › Code", "1 | 2"),
        ("Doors › Code", "loose"),
    ]


def test_html_in_another_charset_and_a_deep_page() -> None:
    assert html.read('<meta charset="iso-8859-1"><p>é'.encode("latin-1")).text == "é"
    assert html.read(b"<div>" * 50_000 + b"deep").text == "deep"


def test_pdf_pages_have_their_numbers() -> None:
    extract = pdf.read(write_pdf([["One (1) line.", "Two."], [], ["Three."]], title="Doors"))
    assert extract.title == "Doors"
    assert [(one.page, extract.text[one.start : one.end]) for one in extract.blocks] == [
        (1, "One (1) line.\nTwo."),
        (3, "Three."),
    ]
    assert extract.warnings == ["1 of 3 pages hold no text; scans are not read."]


def test_a_broken_pdf_is_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        files.read("application/pdf", b"%PDF-1.7 nothing else")
    assert caught.value.reason == "BROKEN_PDF"
    with pytest.raises(InvalidArgument) as caught:
        files.read("application/pdf", write_pdf([[]]))
    assert caught.value.reason == "EMPTY_DOCUMENT"


@pytest.mark.parametrize(
    ("named", "name", "content", "kind"),
    [
        ("", "a.md", b"# x", "text/markdown"),
        ("", "a", b"%PDF-1.4", "application/pdf"),
        ("", "a.txt", b"\n <!doctype HTML><p>", "text/html"),
        ("", "page.html", b"<p>", "text/html"),
        ("", "a.zip", b"x", "text/plain"),
        ("Text/HTML; charset=utf-8", "a.md", b"x", "text/html"),
    ],
)
def test_a_type_is_told(named: str, name: str, content: bytes, kind: str) -> None:
    assert files.media_type(named, name, content) == kind


@settings(deadline=None)
@given(st.text(alphabet="ab1 .\n#-`|>*_<&[]()!é🐈\t\\=~:", max_size=300))
def test_blocks_lie_in_order_and_in_the_text(text: str) -> None:
    for read in (plain.read, markdown.read, html.read):
        extract = read(text.encode())
        end = 0
        for block in extract.blocks:
            assert end <= block.start < block.end <= len(extract.text)
            assert extract.text[block.start : block.end].strip()
            end = block.end
