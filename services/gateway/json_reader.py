"""Reads JSON text from outside, and counts its values before they are created."""

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

MAX_VALUES = 50_000
MAX_DEPTH = 64
_PIECE_BYTES = 2**16
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS = bytes(set(range(256)) - _STEPS.keys())


def read_object(
    text: bytes, *, name: str = "The body", max_values: int = MAX_VALUES
) -> dict[str, Any]:
    """Return the JSON object that a UTF-8 text contains.

    Every value can be written as JSON again: infinities, NaN and lone surrogates are refused.

    Args:
        text: the text.
        name: the name of the text in messages.
        max_values: maximum number of values in the object, on all levels.

    Raises:
        ValueError: the text is not valid, is not an object, or exceeds a limit. The message is a
            sentence for the caller.
    """
    _check_limits(text, name, max_values)
    try:
        value = _DECODER.decode(text.decode("utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{name} is not valid JSON in UTF-8.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object.")
    if b"\\ud" in text or b"\\uD" in text:
        _check_surrogates(value, name)
    return value


def _check_limits(text: bytes, name: str, max_values: int) -> None:
    """Refuse too many values and nesting that is too deep.

    Each step is linear, runs in C and is short, so other threads can run between the steps.
    """
    values = quotes = depth = 0
    for piece in _pieces(text):
        parts = piece.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        outside_strings = b"".join(parts[quotes % 2 :: 2])
        quotes += len(parts) - 1
        values += sum(map(outside_strings.count, (b",", b"[", b"{")))
        # Each string is a value or the name of one.
        if values > max_values or quotes > 4 * max_values:
            raise ValueError(f"{name} contains more than {max_values} values. Send fewer.")
        brackets = outside_strings.translate(None, _NOT_BRACKETS)
        depths = [*itertools.accumulate(map(_STEPS.__getitem__, brackets), initial=depth)]
        if max(depths) > MAX_DEPTH:
            raise ValueError(
                f"{name} is nested deeper than {MAX_DEPTH} levels. Send less nested data."
            )
        depth = depths[-1]


def _pieces(text: bytes) -> Iterator[bytes]:
    """Yield a text in pieces that end between escape sequences."""
    start = 0
    while start < len(text):
        piece = text[start : start + _PIECE_BYTES]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = text[start : start + _PIECE_BYTES + 1]
        yield piece
        start += len(piece)


def _check_surrogates(value: object, name: str) -> None:
    """Refuse escaped halves of surrogate pairs, which are no characters (RFC 8259, section 8.2)."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} contains half of a surrogate pair. Send whole characters."
        ) from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number.")
    return number


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)
