"""Detects the media type of a document, and parses it."""

import mimetypes

from services.errors import InvalidArgument
from services.gateway.rag.ingest.parsers import html, markdown, pdf, plain
from services.gateway.rag.ingest.parsers.extract import Extract

_PARSERS = {
    "text/plain": plain.parse,
    "text/markdown": markdown.parse,
    "text/html": html.parse,
    "application/pdf": pdf.parse,
}
MEDIA_TYPES = tuple(_PARSERS)
_HTML_PREFIXES = (b"<!doctype html", b"<html")


def media_type(declared: str, name: str, content: bytes) -> str:
    """Return the declared media type, or detect it from the content or the file name.

    Raises:
        InvalidArgument: no parser supports the declared type.
    """
    if declared:
        essence = declared.partition(";")[0].strip().lower()
        if essence not in _PARSERS:
            raise InvalidArgument(
                "UNKNOWN_MEDIA_TYPE",
                f"The media type is not supported. Send one of {', '.join(MEDIA_TYPES)}.",
                field="media_type",
                media_type=declared,
            )
        return essence
    if content.startswith(b"%PDF-"):
        return "application/pdf"
    if content[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML_PREFIXES):
        return "text/html"
    guessed = mimetypes.guess_type(name)[0]
    return guessed if guessed in _PARSERS else "text/plain"


def parse(kind: str, content: bytes) -> Extract:
    """Parse a file whose media type is ``kind``, one of ``MEDIA_TYPES``.

    Raises:
        InvalidArgument: the file is broken, locked, not UTF-8, or has no text.
    """
    extract = _PARSERS[kind](content)
    if not extract.blocks:
        raise InvalidArgument(
            "EMPTY_DOCUMENT",
            " ".join(["The document has no text.", *extract.warnings]),
            field="content",
        )
    return extract
