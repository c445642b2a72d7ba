"""Parses plain text: blank lines separate paragraphs."""

from services.gateway.rag.ingest.parsers.extract import Block, Extract, decode, paragraphs


def parse(content: bytes) -> Extract:
    """Parse a plain text. Raises InvalidArgument if it is not UTF-8."""
    text = decode(content)
    return Extract(text, [Block(*place) for place in paragraphs(text, 0, len(text))])
