"""Detects the media type of a document."""

import mimetypes

from services.errors import InvalidArgument

MEDIA_TYPES = ("text/plain", "text/markdown", "text/html", "application/pdf")
_HTML_PREFIXES = (b"<!doctype html", b"<html")


def media_type(declared: str, name: str, content: bytes) -> str:
    """Return the declared media type, or detect it from the content or the file name.

    Raises:
        InvalidArgument: no parser supports the declared type.
    """
    if declared:
        essence = declared.partition(";")[0].strip().lower()
        if essence not in MEDIA_TYPES:
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
    return guessed if guessed in MEDIA_TYPES else "text/plain"
