"""Parses plain text: blank lines separate paragraphs."""

from services.gateway.rag.ingest.parsers.extract import Block, Extract, add, decode, paragraphs

# Longer paragraphs are tables, logs or JSON lines, which have no sentences.
MAX_PARAGRAPH_CHARACTERS = 2**14


def parse(content: bytes) -> Extract:
    """Parse a plain text. Raises ParseError if it is not UTF-8."""
    text = decode(content)
    blocks: list[Block] = []
    for start, end in paragraphs(text, 0, len(text)):
        add(blocks, Block(start, end, by_lines=end - start > MAX_PARAGRAPH_CHARACTERS))
    return Extract(text, blocks)
