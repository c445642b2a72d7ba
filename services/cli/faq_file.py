"""Reads files of questions and answers: JSON lines or CSV."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import click

from memetwin.gateway.v1 import cache_pb2

MAX_CELL = 2**24
# A message of LoadEntries may have 1 MiB. The gateway would end the stream for a larger one.
MAX_ENTRY_BYTES = 2**19
CSV_SUFFIXES, JSON_SUFFIXES = (".csv", ".tsv"), (".jsonl", ".ndjson", ".json")
_SYNONYMS = {"question": "prompt", "answer": "response"}
_DELIMITERS = ",;\t"


class Row(NamedTuple):
    """A line of the file: its entry, or what is wrong with it."""

    line: int
    entry: cache_pb2.CuratedEntry | None
    problem: str = ""


def read(file: Path) -> Iterator[Row]:
    """Yield the rows of a file of JSON lines or CSV. Blank lines are left out."""
    with file.open(encoding="utf-8-sig", newline="") as source:
        try:
            yield from _read_csv(source) if _is_csv(file, source) else _read_json(source)
        except UnicodeDecodeError as error:
            raise click.ClickException(
                f"{file} is not UTF-8. Convert it, and try again."
            ) from error


def _is_csv(file: Path, source: TextIO) -> bool:
    if (suffix := file.suffix.lower()) in CSV_SUFFIXES + JSON_SUFFIXES:
        return suffix in CSV_SUFFIXES
    start = source.read(4096).lstrip()
    source.seek(0)
    return bool(start) and not start.startswith("{")


def _read_json(source: TextIO) -> Iterator[Row]:
    for number, line in enumerate(source, 1):
        if line.strip():
            yield _json_row(number, line)


def _json_row(number: int, line: str) -> Row:
    try:
        fields = json.loads(line)
    except ValueError as error:
        return Row(number, None, f"The line is not valid JSON: {error}")
    if not isinstance(fields, dict):
        return Row(number, None, "The line is not a JSON object.")
    return _row(number, fields)


def _read_csv(source: TextIO) -> Iterator[Row]:
    csv.field_size_limit(MAX_CELL)
    header = source.readline()
    source.seek(0)
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.DictReader(source, delimiter=delimiter, strict=True)
    names = {name.strip().lower() for name in reader.fieldnames or () if name}
    if not names & {"prompt", "question"} or not names & {"response", "answer"}:
        raise click.ClickException(
            "The first line must name the columns, and two of them must be prompt (or question) and"
            " response (or answer)."
        )
    try:
        for fields in reader:
            yield _row(reader.line_num, {name or "": value for name, value in fields.items()})
    except csv.Error as error:
        line = reader.reader.line_num  # unlike reader.line_num, of the row that failed
        raise click.ClickException(f"Line {line} is not valid CSV: {error}") from error


def _row(number: int, fields: Mapping[str, Any]) -> Row:
    """Return the row of named values; empty ones are left out."""
    values = {name.strip().lower(): value for name, value in fields.items()}
    values = {
        _SYNONYMS.get(name, name): value
        for name, value in values.items()
        if value not in (None, "", [], {})
    }
    if extra := values.pop("", None):
        return Row(number, None, f"The line has more cells than the header: {extra}")
    for name in ("prompt", "response", "model"):
        if not isinstance(values.setdefault(name, "" if name == "model" else None), str):
            return Row(number, None, f"The line has no text as {name}.")
    try:
        entry = _entry(values)
    except (TypeError, ValueError) as error:
        return Row(number, None, str(error))
    if entry.ByteSize() > MAX_ENTRY_BYTES:
        return Row(number, None, f"The entry is longer than {MAX_ENTRY_BYTES} bytes.")
    return Row(number, entry)


def _entry(values: dict[str, Any]) -> cache_pb2.CuratedEntry:
    """Return an entry. Raises ValueError or TypeError for a value of a wrong type."""
    cites, metadata = values.pop("cites", []), values.pop("metadata", {})
    if isinstance(metadata, str):
        metadata = json.loads(metadata)
    if not isinstance(metadata, dict):
        raise TypeError("metadata is not a JSON object.")
    known = {name: values.pop(name) for name in ("prompt", "response", "model")}
    try:
        ttl = float(values.pop("ttl", 0.0))
    except (TypeError, ValueError) as error:
        raise ValueError("ttl is not a number.") from error
    return cache_pb2.CuratedEntry(
        **{name: value.strip() for name, value in known.items()},
        ttl=ttl,
        cites=[cites] if isinstance(cites, str) else cites,
        metadata={
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in {**values, **metadata}.items()
        },
    )
