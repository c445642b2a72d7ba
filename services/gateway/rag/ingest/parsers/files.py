"""Parses a document of any supported media type."""

from importlib import import_module

from services.gateway.rag.ingest.parsers.extract import Extract, ParseError

_OFFICE = "application/vnd.openxmlformats-officedocument."
# The module and the function of each parser. A process loads only those that it needs, because the
# libraries take memory.
PARSERS = {
    "text/plain": ("plain", "parse"),
    "text/markdown": ("markdown", "parse"),
    "text/html": ("html", "parse"),
    "application/pdf": ("pdf", "parse"),
    f"{_OFFICE}wordprocessingml.document": ("word", "parse"),
    f"{_OFFICE}presentationml.presentation": ("slides", "parse"),
    f"{_OFFICE}spreadsheetml.sheet": ("sheets", "parse"),
    "application/epub+zip": ("epub", "parse"),
    "text/csv": ("delimited", "parse"),
    "text/tab-separated-values": ("delimited", "parse_tabs"),
    "application/json": ("json_values", "parse"),
    "application/x-ndjson": ("json_values", "parse_lines"),
    "text/x-rst": ("rst", "parse"),
    "text/x-source": ("plain", "parse_code"),
}


def parse(media_type: str, content: bytes) -> Extract:
    """Parse a file. The media type may have the parameter ``charset``.

    Raises:
        ParseError: the file is broken, locked, not a text, too complex, or has no text.
    """
    essence, _, charset = media_type.partition(";charset=")
    module, name = PARSERS[essence]
    extract: Extract = getattr(import_module(f"{__package__}.{module}"), name)(content, charset)
    if not extract.blocks:
        raise ParseError(
            "EMPTY_DOCUMENT", " ".join(["The document has no text.", *extract.warnings])
        )
    return extract
