import pytest

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
    assert blocks(extract) == [
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


def test_the_first_heading_is_the_title() -> None:
    assert markdown.parse(b"Intro.\n\n# Title *here*\n").title == "Title *here*"
