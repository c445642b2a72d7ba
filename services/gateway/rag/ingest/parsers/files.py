"""Parses a document of any supported media type."""

from services.gateway.rag.ingest.parsers import html, markdown, pdf, plain
from services.gateway.rag.ingest.parsers.extract import Extract, ParseError

PARSERS = {
    "text/plain": plain.parse,
    "text/markdown": markdown.parse,
    "text/html": html.parse,
    "application/pdf": pdf.parse,
}


def parse(media_type: str, content: bytes) -> Extract:
    """Parse a file.

    Raises:
        ParseError: the file is broken, locked, not UTF-8, too complex, or has no text.
    """
    extract = PARSERS[media_type](content)
    if not extract.blocks:
        raise ParseError(
            "EMPTY_DOCUMENT", " ".join(["The document has no text.", *extract.warnings])
        )
    return extract
