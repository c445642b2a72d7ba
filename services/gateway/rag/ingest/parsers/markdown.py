"""Parses Markdown (CommonMark with tables), and the front matter before it.

The extracted text is the file itself, so that offsets in it are offsets in the source.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

from markdown_it import MarkdownIt
from markdown_it.token import Token

from services.gateway.rag.ingest.parsers import charsets, front_matter
from services.gateway.rag.ingest.parsers.extract import Block, Extract, Headings, add, trim

# The parser needs about 70 bytes of memory per character of a window.
WINDOW_CHARACTERS = 2**17
MAX_WINDOW_CHARACTERS = 2**20
_BY_LINES = ("fence", "code_block", "table_open", "bullet_list_open", "ordered_list_open")
_SILENT = ("hr",)
_LINE_END = re.compile(r"[\n\r]")
# The blocks are enough: inline markup stays in the text.
_PARSER = MarkdownIt("commonmark").enable("table").disable("inline")


def parse(content: bytes, charset: str = "") -> Extract:
    """Parse a Markdown file. Raises ParseError if it is not a text or has too many blocks."""
    text, warnings = charsets.decode(content, charset)
    front = front_matter.read(text)
    ranges = [(front.end, len(text))]
    blocks: list[Block] = []
    if front.is_prose:
        # Its last line is no heading, though a line of hyphens follows.
        ranges.insert(0, front.inner)
    elif front.is_text:
        blocks += [Block(*place, by_lines=True) for place in trim(text, 0, front.end)]
    headings = Headings()
    titles = [_add_blocks(text, *one, blocks, headings) for one in ranges]
    covered = front.end if front.end and not front.is_text else 0
    return Extract(
        text,
        _cover(text, blocks, covered),
        front.title or next(filter(None, titles), ""),
        front.fields,
        warnings + front.warnings,
    )


def _add_blocks(text: str, start: int, end: int, blocks: list[Block], headings: Headings) -> str:
    """Add the blocks of a part of a text. Return the first level-1 heading."""
    title = ""
    for tokens, lines in _windows(text, start, end):
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
    return title


def _cover(text: str, blocks: list[Block], start: int) -> list[Block]:
    """Extend blocks over what is in none: thematic breaks and definitions of links.

    So each visible character after ``start`` lies in a block.
    """
    covered: list[Block] = []
    for block in [*blocks, Block(len(text), len(text))]:
        first = block.start
        for gap in trim(text, start, block.start):
            if covered:
                covered[-1] = replace(covered[-1], end=gap[1])
            else:
                first = gap[0]
        if first < block.end:
            covered.append(replace(block, start=first))
        start = block.end
    return covered


def _windows(text: str, start: int, stop: int) -> Iterator[tuple[list[Token], list[int]]]:
    """Yield the tokens of each window of a part of the text, and the offsets of its lines.

    The memory of the parser grows with what it reads, so it reads windows. The end of a window may
    cut its last block, so the next window begins with that block. A larger window reads a block
    that fills a whole window; one of ``MAX_WINDOW_CHARACTERS`` is cut.
    """
    size = WINDOW_CHARACTERS
    while start < stop:
        end = min(stop, _line_end(text, start, start + size))
        window = text[start:end].replace("\r", "\n")  # the parser also ends lines at CR
        lines = list(accumulate((len(line) + 1 for line in window.split("\n")), initial=start))
        lines[-1] = end
        tokens = _PARSER.parse(window)
        blocks = [number for number, token in enumerate(tokens) if _is_block(token)]
        last = blocks[-1] if len(blocks) > 1 else None
        if end < stop and last is None and size < MAX_WINDOW_CHARACTERS:
            size *= 2
            continue
        if end < stop and last is not None:
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
