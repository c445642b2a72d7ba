"""Reads plain text: paragraphs are what blank lines part."""

from services.gateway.rag.ingest.parsers.extract import Block, Extract, decoded, paragraphs


def read(content: bytes) -> Extract:
    """Return what a UTF-8 text says. Raises InvalidArgument if it is none."""
    text = decoded(content)
    return Extract(text, [Block(*place) for place in paragraphs(text, 0, len(text))])
