"""Parses JSON and JSON lines. Each object becomes a line that names its values by their paths."""

import json
from collections.abc import Iterator
from typing import Any

from services.gateway.rag.ingest.parsers import charsets, plain
from services.gateway.rag.ingest.parsers.builder import ExtractBuilder
from services.gateway.rag.ingest.parsers.extract import Extract
from services.gateway.rag.ingest.parsers.records import Record, RecordWriter


class _Object(list[tuple[str, Any]]):
    """The members of an object, in order; a repeated name keeps all its values."""


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=str, strict=False
)


def parse(content: bytes, charset: str = "") -> Extract:
    """Parse JSON. What is not valid JSON is read as plain text, with a warning.

    Raises:
        ParseError: the file is not a text, or is too large.
    """
    text, warnings = charsets.decode(content, charset)
    built = ExtractBuilder()
    built.warnings += warnings
    writer = RecordWriter(built)
    try:
        value = _DECODER.decode(text)
        for record in _records(value, ""):
            writer.add(record)
    except (ValueError, RecursionError):
        problem = "The file is not valid JSON, or is nested too deeply. It was read as text."
        return plain.parse_text(text, [*warnings, problem])
    writer.flush()
    return built.build(_title(value))


def parse_lines(content: bytes, charset: str = "") -> Extract:
    """Parse JSON lines. A line that is not valid JSON is kept as it is, with a warning.

    Raises:
        ParseError: the file is not a text, or is too large.
    """
    text, warnings = charsets.decode(content, charset)
    built = ExtractBuilder()
    built.warnings += warnings
    writer, broken = RecordWriter(built), 0
    for line in text.split("\n"):
        try:
            if line.strip():
                writer.add(list(_leaves(_DECODER.decode(line), "")))
        except (ValueError, RecursionError):
            broken += 1
            writer.add([("", line)])
    writer.flush()
    if broken:
        built.warnings.append(f"{broken} lines are not valid JSON. They were read as text.")
    return built.build()


def _records(value: Any, path: str) -> Iterator[Record]:
    """Yield a record for the values that an object has itself, and for each element of a list."""
    if isinstance(value, _Object):
        members = [(_path(path, name), one) for name, one in value]
        yield [(name, _text(one)) for name, one in members if _is_flat(one)]
        for name, one in members:
            if not _is_flat(one):
                yield from _records(one, name)
    elif _is_flat(value):
        yield [(path, _text(value))]
    else:
        for one in value:
            yield list(_leaves(one, path))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if _is_flat(value):
        yield path, _text(value)
    elif isinstance(value, _Object):
        for name, one in value:
            yield from _leaves(one, _path(path, name))
    else:
        for one in value:
            yield from _leaves(one, path)


def _path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_flat(value: Any) -> bool:
    """Return whether a value is no object, and no list that has an object or a list."""
    if isinstance(value, _Object):
        return False
    return not isinstance(value, list) or not any(isinstance(one, list) for one in value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(filter(None, map(_text, value)))
    if isinstance(value, bool):
        return str(value).lower()
    return value or ""


def _title(value: Any) -> str:
    members = value if isinstance(value, _Object) else []
    return next((one for name, one in members if name == "title" and isinstance(one, str)), "")
