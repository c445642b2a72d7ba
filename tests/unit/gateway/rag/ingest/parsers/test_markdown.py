from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.rag.ingest.parsers import markdown
from services.gateway.rag.ingest.parsers.extract import Extract

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


def blocks(extract: Extract) -> list[tuple[str, str]]:
    return [(one.section, extract.text[one.start : one.end]) for one in extract.blocks]


def test_blocks_have_the_structure_and_the_offsets_of_the_source() -> None:
    extract = markdown.parse(MARKDOWN.replace("\n", "\r\n").encode())
    assert extract.text == MARKDOWN
    assert blocks(extract)[0][1].endswith("author: {name: nobody}\n---")
    assert blocks(extract)[1:] == [
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
        True,
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
    extract = markdown.parse(MARKDOWN.encode())
    assert extract.title == "The guide"
    assert extract.fields == {
        "year": 2012.0,
        "published": 1577923200.0,
        "tags": ["cat", "dog"],
        "place": {"lat": 1.5, "lon": 2.0},
        "draft": "true",
    }
    assert extract.warnings == [
        "The front matter's 'author' was ignored: no field fits its name or value."
    ]


@pytest.mark.parametrize(
    "front", ["---\n: [\n---\n", "---\n- a\n---\n", "---\na: !!python/x 1\n---\n"]
)
def test_an_invalid_front_matter_is_ignored(front: str) -> None:
    extract = markdown.parse((front + "\nText.").encode())
    assert ("", "Text.") in blocks(extract)
    assert extract.fields == {}


def test_prose_between_lines_of_hyphens_is_a_paragraph() -> None:
    extract = markdown.parse(b"---\nThe gate opens at nine.\n---\n\n# Fees\n\nNone.\n")
    assert blocks(extract) == [
        ("", "---\nThe gate opens at nine.\n---"),
        ("Fees", "# Fees"),
        ("Fees", "None."),
    ]


def test_toml_is_front_matter() -> None:
    extract = markdown.parse(b'+++\ntitle = "Fees"\n+++\n\nThe fee is 12 euros.\n')
    assert (extract.title, blocks(extract)) == ("Fees", [("", "The fee is 12 euros.")])


def test_what_has_no_block_belongs_to_its_neighbour() -> None:
    text = "***\n\nOne.\n\n[r]: /u\n\n# Two\n\n---\n"
    assert blocks(markdown.parse(text.encode())) == [
        ("", "***\n\nOne.\n\n[r]: /u"),
        ("Two", "# Two\n\n---"),
    ]
    assert [text for _, text in blocks(markdown.parse(b"\n[r]: /u\n"))] == ["[r]: /u\n"]


def test_the_first_heading_is_the_title() -> None:
    assert markdown.parse(b"Intro.\n\n# Title *here*\n").title == "Title *here*"


@pytest.mark.parametrize("character", ["\f", "\v", "\x85", "\u2028", "\u2029", "\x1c", "\r"])
def test_every_text_is_in_a_block_of_its_section(character: str) -> None:
    """Only LF and CR end a line of CommonMark."""
    text = f"# Guide\n\nOne{character}two.\n\n## Setup\n\nRun it.\n\n## Secret\n\nIt is 4711.\n"
    assert blocks(markdown.parse(text.encode())) == [
        ("Guide", "# Guide"),
        ("Guide", f"One{character}two."),
        ("Guide › Setup", "## Setup"),
        ("Guide › Setup", "Run it."),
        ("Guide › Secret", "## Secret"),
        ("Guide › Secret", "It is 4711."),
    ]


PIECES = [
    *("# H\n", "para\n", "\n", "- a\n", "  b\n", "    code\n", "```\n", "| a | b |\n", "|---|\n"),
    *("> q\n", "1. x\n", "<div>\n", "---\n", "===\n", "[r]: /u\n", '"t"\n', "\r", "\r\n", "\f\n"),
    *("w\u2028v\n", "2) y\n", "* z\n", "~~~~\n", "<b>x\n", "\t- c\n", "end", " ", "<!--\n"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=40), st.sampled_from([8, 16, 32]))
def test_windows_change_nothing(pieces: list[str], window: int) -> None:
    content = "".join(pieces).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(markdown, "WINDOW_CHARACTERS", 2**30)
        whole = markdown.parse(content)
        patch.setattr(markdown, "WINDOW_CHARACTERS", window)
        assert markdown.parse(content) == whole


def test_a_block_larger_than_a_window_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "WINDOW_CHARACTERS", 16)
    monkeypatch.setattr(markdown, "MAX_WINDOW_CHARACTERS", 64)
    text = "- item\n" * 100
    found = markdown.parse(text.encode()).blocks
    assert len(found) > 1
    assert all(text[one.start : one.end].startswith("- item") for one in found)
    assert sum(one.end - one.start + 1 for one in found) == len(text)


def test_the_parser_reads_no_more_than_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    parse = markdown._PARSER.parse

    def record(text: str) -> Any:
        sizes.append(len(text))
        return parse(text)

    monkeypatch.setattr(markdown, "_PARSER", SimpleNamespace(parse=record))
    text = "# Head\n\nSome words.\n\n" * 10_000
    assert len(markdown.parse(text.encode()).blocks) == 20_000
    assert max(sizes) <= markdown.WINDOW_CHARACTERS
    assert sum(sizes) < 1.01 * len(text)
