"""Parses Markdown (CommonMark with tables), and the YAML front matter before it.

The extracted text is the file itself, so that offsets in it are offsets in the source.
"""

import datetime
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from services.gateway.rag.ingest.parsers.extract import (
    Block,
    Extract,
    Headings,
    add,
    decode,
    trim,
)

if TYPE_CHECKING:  # the parsers' processes do not load it
    from services.gateway.backends.types import Value

# The parser needs about 70 bytes of memory per character of a window.
WINDOW_CHARACTERS = 2**17
MAX_WINDOW_CHARACTERS = 2**20
FRONT_MATTER_CHARACTERS = 2**16
_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_BY_LINES = ("fence", "code_block", "table_open", "bullet_list_open", "ordered_list_open")
_SILENT = ("hr", "front_matter")
_LINE_END = re.compile(r"[\n\r]")
# The blocks are enough: inline markup stays in the text.
_PARSER = MarkdownIt("commonmark").enable("table").disable("inline")


def parse(content: bytes) -> Extract:
    """Parse a Markdown file. Raises ParseError if it is not UTF-8 or has too many blocks."""
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
    blocks: list[Block] = []
    headings, title = Headings(), ""
    for tokens, lines in _windows(text, start):
        for number, token in enumerate(tokens):
            if not _is_block(token) or token.type in _SILENT:
                continue
            if token.type == "heading_open":
                heading = tokens[number + 1].content
                headings.enter(int(token.tag[1]), heading)
                title = title or (heading if token.tag == "h1" else "")
            first, last = token.map or (0, 0)
            for place in trim(text, lines[first], lines[min(last, len(lines) - 1)]):
                add(blocks, Block(*place, token.type in _BY_LINES, str(headings)))
    return blocks, title


def _windows(text: str, start: int) -> Iterator[tuple[list[Token], list[int]]]:
    """Yield the tokens of each window of the text, and the offsets of its lines.

    The memory of the parser grows with what it reads, so it reads windows. The end of a window may
    cut its last block, so the next window begins with that block. A larger window reads a block
    that fills a whole window; one of ``MAX_WINDOW_CHARACTERS`` is cut.
    """
    size = WINDOW_CHARACTERS
    while start < len(text):
        end = _line_end(text, start, start + size)
        window = text[start:end].replace("\r", "\n")  # the parser also ends lines at CR
        lines = list(accumulate((len(line) + 1 for line in window.split("\n")), initial=start))
        lines[-1] = end
        tokens = _PARSER.parse(window)
        blocks = [number for number, token in enumerate(tokens) if _is_block(token)]
        last = blocks[-1] if len(blocks) > 1 else None
        if end < len(text) and last is None and size < MAX_WINDOW_CHARACTERS:
            size *= 2
            continue
        if end < len(text) and last is not None:
            end = lines[(tokens[last].map or [0])[0]]
            tokens = tokens[:last]
        yield tokens, lines
        start, size = end, WINDOW_CHARACTERS


def _line_end(text: str, start: int, end: int) -> int:
    """Return where the last line that ends before ``end`` ends, or the first one after it."""
    if end >= len(text):
        return len(text)
    before = max(text.rfind("\n", start, end), text.rfind("\r", start, end))
    if before >= 0:
        return before + 1
    after = _LINE_END.search(text, end)
    return after.end() if after else len(text)


def _is_block(token: Token) -> bool:
    return token.level == 0 and token.map is not None and token.nesting >= 0


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


def _fields(metadata: dict[str, Any]) -> "tuple[dict[str, Value], list[str]]":
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


def _value(value: Any) -> "Value | None":
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


def _compound(value: Any) -> "Value | None":
    """Return a list of strings as tags, and a mapping of ``lat`` and ``lon`` as a point."""
    if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
        return list(value)
    if not isinstance(value, dict) or value.keys() != {"lat", "lon"}:
        return None
    if not all(isinstance(one, int | float) for one in value.values()):
        return None
    return {name: float(one) for name, one in value.items()}
