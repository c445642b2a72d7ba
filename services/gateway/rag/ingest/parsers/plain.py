"""Parses plain text and source code: blank lines separate paragraphs."""

from services.gateway.rag.ingest.parsers import charsets
from services.gateway.rag.ingest.parsers.extract import Block, Extract, add, paragraphs

# Longer paragraphs are tables, logs or JSON lines, which have no sentences.
MAX_PARAGRAPH_CHARACTERS = 2**14


def parse(content: bytes, charset: str = "") -> Extract:
    """Parse a plain text. Raises ParseError if it cannot be decoded."""
    return parse_text(*charsets.decode(content, charset))


def parse_code(content: bytes, charset: str = "") -> Extract:
    """Parse source code, whose blocks are divided at line ends. Raises ParseError."""
    text, warnings = charsets.decode(content, charset)
    return _extract(text, warnings, 0)


def parse_text(text: str, warnings: list[str]) -> Extract:
    """Parse a text that is decoded. Raises ParseError if it has too many paragraphs."""
    return _extract(text, warnings, MAX_PARAGRAPH_CHARACTERS)


def _extract(text: str, warnings: list[str], max_characters: int) -> Extract:
    blocks: list[Block] = []
    for start, end in paragraphs(text, 0, len(text)):
        add(blocks, Block(start, end, by_lines=end - start > max_characters))
    return Extract(text, blocks, warnings=warnings)
