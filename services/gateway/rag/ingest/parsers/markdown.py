"""Parses Markdown (CommonMark with tables), and the YAML front matter before it.

The extracted text is the file itself, so that offsets in it are offsets in the source.
"""

import datetime
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from services.gateway.backends.types import Value
from services.gateway.rag.ingest.parsers.extract import Block, Extract, Headings, decode, trim

FRONT_MATTER_CHARACTERS = 2**16
_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_BY_LINES = ("fence", "code_block", "table_open", "bullet_list_open", "ordered_list_open")
_SILENT = ("hr", "front_matter")


def parse(content: bytes) -> Extract:
    """Parse a Markdown file. Raises InvalidArgument if it is not UTF-8."""
    text = decode(content)
    start, metadata, warnings = _front_matter(text)
    title = metadata.pop("title", "")
    fields, rejected = _fields(metadata)
    blocks, heading = _blocks(text, start)
    return Extract(
        text,
        blocks,
        title if isinstance(title, str) and title else heading,
        fields,
        warnings + rejected,
    )


def _blocks(text: str, start: int) -> tuple[list[Block], str]:
    """Return the blocks after ``start``, and the first level-1 heading."""
    body = text[start:]
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    lines = list(accumulate(map(len, body.splitlines(keepends=True)), initial=start))
    blocks: list[Block] = []
    headings, title = Headings(), ""
    for number, token in enumerate(tokens):
        if token.level or not token.map or token.nesting < 0 or token.type in _SILENT:
            continue
        if token.type == "heading_open":
            heading = tokens[number + 1].content
            headings.enter(int(token.tag[1]), heading)
            title = title or (heading if token.tag == "h1" else "")
        blocks += _block(text, token, lines, str(headings))
    return blocks, title


def _block(text: str, token: Token, lines: list[int], section: str) -> Iterator[Block]:
    first, last = token.map or (0, 0)
    for start, end in trim(text, lines[first], lines[min(last, len(lines) - 1)]):
        yield Block(start, end, token.type in _BY_LINES, section)


def _front_matter(text: str) -> tuple[int, dict[str, Any], list[str]]:
    """Return the offset of the text after the front matter, the metadata, and warnings."""
    match = _FRONT_MATTER.match(text, 0, FRONT_MATTER_CHARACTERS)
    if not match:
        return 0, {}, []
    try:
        metadata = yaml.safe_load(match[1] or "") or {}
    except (yaml.YAMLError, ValueError, RecursionError):
        return match.end(), {}, ["The front matter is not valid YAML and was ignored."]
    if not isinstance(metadata, dict):
        return 0, {}, []
    return match.end(), {str(name): value for name, value in metadata.items()}, []


def _fields(metadata: dict[str, Any]) -> tuple[dict[str, Value], list[str]]:
    """Return the metadata that fits into fields, and a warning for each other entry."""
    fields, warnings = {}, []
    for name, raw in metadata.items():
        value = _value(raw) if _NAME.fullmatch(name) else None
        if value is None:
            warnings.append(
                f"The front matter's {name[:64]!r} was ignored: no field fits its name or value."
            )
        else:
            fields[name] = value
    return fields, warnings


def _value(value: Any) -> Value | None:
    """Return a YAML value as a field value, or None. Dates become Unix seconds."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and abs(value) < 2**1000:
        return float(value)
    if isinstance(value, str):
        return value or None
    if isinstance(value, datetime.datetime):
        return (value if value.tzinfo else value.replace(tzinfo=datetime.UTC)).timestamp()
    if isinstance(value, datetime.date):
        return datetime.datetime(*value.timetuple()[:3], tzinfo=datetime.UTC).timestamp()
    return _compound(value)


def _compound(value: Any) -> Value | None:
    """Return a list of strings as tags, and a mapping of ``lat`` and ``lon`` as a point."""
    if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
        return list(value)
    if not isinstance(value, dict) or value.keys() != {"lat", "lon"}:
        return None
    if not all(isinstance(one, int | float) for one in value.values()):
        return None
    return {name: float(one) for name, one in value.items()}
