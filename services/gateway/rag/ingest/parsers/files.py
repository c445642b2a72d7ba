"""Tells what kind of file a document is, and reads it."""

import mimetypes

from services.errors import InvalidArgument
from services.gateway.rag.ingest.parsers import html, markdown, pdf, plain
from services.gateway.rag.ingest.parsers.extract import Extract

_READERS = {
    "text/plain": plain.read,
    "text/markdown": markdown.read,
    "text/html": html.read,
    "application/pdf": pdf.read,
}
MEDIA_TYPES = tuple(_READERS)
_HTML_BEGINNINGS = (b"<!doctype html", b"<html")


def media_type(named: str, name: str, content: bytes) -> str:
    """Return a document's media type: the one it was sent with, else what it looks like.

    Raises:
        InvalidArgument: it was sent with a type that cannot be read.
    """
    if named:
        plainly = named.partition(";")[0].strip().lower()
        if plainly not in _READERS:
            raise InvalidArgument(
                "UNKNOWN_MEDIA_TYPE",
                f"media_type is one of {', '.join(MEDIA_TYPES)}.",
                field="media_type",
                media_type=named,
            )
        return plainly
    if content.startswith(b"%PDF-"):
        return "application/pdf"
    if content[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML_BEGINNINGS):
        return "text/html"
    guessed = mimetypes.guess_type(name)[0]
    return guessed if guessed in _READERS else "text/plain"


def read(kind: str, content: bytes) -> Extract:
    """Return what a file of a media type of ours says.

    Raises:
        InvalidArgument: it is broken, locked, no text or empty.
    """
    extract = _READERS[kind](content)
    if not extract.blocks:
        raise InvalidArgument(
            "EMPTY_DOCUMENT",
            " ".join(["The document has no text.", *extract.warnings]),
            field="content",
        )
    return extract
