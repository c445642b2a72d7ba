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
    """Parse a file. The media type may have the parameter ``charset``.

    Raises:
        ParseError: the file is broken, locked, not a text, too complex, or has no text.
    """
    essence, _, charset = media_type.partition(";charset=")
    extract = PARSERS[essence](content, charset)
    if not extract.blocks:
        raise ParseError(
            "EMPTY_DOCUMENT", " ".join(["The document has no text.", *extract.warnings])
        )
    return extract
