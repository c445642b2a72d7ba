"""Reads JSON text from outside, and counts its values before they are created."""

import itertools
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

MAX_VALUES = 50_000
MAX_DEPTH = 64
_PIECE_BYTES = 2**16
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS = bytes(set(range(256)) - _STEPS.keys())
# Python converts no longer text to an integer.
_MAX_DIGITS = 4300
_MAX_FIELD = 200
# What OpenAI's API writes as the log probability of a token that is very unlikely
# (https://platform.openai.com/docs/api-reference/chat/object).
_LEAST_LOG_PROBABILITY = -9999.0


class JsonError(ValueError):
    """A text is not valid. The message is a sentence for the caller.

    Attributes:
        field: the path of the value that is not valid, such as ``messages[0].content``; empty if
            that is not known.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


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
        JsonError: the text is not valid, is not an object, or exceeds a limit.
    """
    _check_limits(text, name, max_values)
    try:
        value = _decode(text, _DECODER, name)
    except _NumberError as error:
        value = _decode(text, _MARKING_DECODER, name)
        field = _field(value, lambda one: one is _BAD_NUMBER)
        raise JsonError(
            f"{name} contains a number that is not finite{_at(field)}.", field
        ) from error
    if b"\\ud" in text or b"\\uD" in text:
        _check_surrogates(value, name)
    return value


def read_lenient_object(text: bytes, *, name: str, max_values: int) -> dict[str, Any]:
    """Return a JSON object as ``read_object`` does, also from text that Python's ``json`` writes.

    ``-Infinity`` becomes the lowest log probability of OpenAI's API, and any other number that is
    not finite becomes None. Halves of surrogate pairs stay.

    Raises:
        JsonError: the text is not valid, is not an object, or exceeds a limit.
    """
    _check_limits(text, name, max_values)
    return _decode(text, _LENIENT_DECODER, name, errors="surrogatepass")


def _decode(
    text: bytes, decoder: json.JSONDecoder, name: str, errors: str = "strict"
) -> dict[str, Any]:
    try:
        value = decoder.decode(text.decode("utf-8", errors).removeprefix("\ufeff"))
    except _NumberError:
        raise
    except ValueError as error:
        raise JsonError(f"{name} is not valid JSON in UTF-8.") from error
    if not isinstance(value, dict):
        raise JsonError(f"{name} must be a JSON object.")
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
            raise JsonError(f"{name} contains more than {max_values} values. Send fewer.")
        brackets = outside_strings.translate(None, _NOT_BRACKETS)
        depths = [*itertools.accumulate(map(_STEPS.__getitem__, brackets), initial=depth)]
        if max(depths) > MAX_DEPTH:
            raise JsonError(
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


def _check_surrogates(value: dict[str, Any], name: str) -> None:
    """Refuse escaped halves of surrogate pairs, which are no characters (RFC 8259, section 8.2)."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        field = _field(value, _has_surrogate)
        raise JsonError(
            f"{name} contains half of a surrogate pair{_at(field)}. Send whole characters.", field
        ) from error


def _has_surrogate(value: object) -> bool:
    return isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value)


def _at(field: str) -> str:
    return f", at {field}" if field else ""


def _field(value: object, is_bad: Callable[[object], bool]) -> str:
    """Return the path of a value as a text that is short and can be written as UTF-8."""
    return _path(value, is_bad)[:_MAX_FIELD].encode(errors="replace").decode()


def _path(value: object, is_bad: Callable[[object], bool], path: str = "") -> str:
    """Return the path of the first value for which ``is_bad`` holds, or an empty text."""
    if is_bad(value):
        return path
    inner: Iterator[tuple[str, object]] = iter(())
    if isinstance(value, dict):
        inner = ((f"{path}.{name}" if path else name, one) for name, one in value.items())
    elif isinstance(value, list):
        inner = ((f"{path}[{index}]", one) for index, one in enumerate(value))
    return next(filter(None, (_path(one, is_bad, place) for place, one in inner)), "")


class _NumberError(ValueError):
    """A number is not finite, or has more digits than Python reads."""


_BAD_NUMBER = object()


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _NumberError(text)
    return number


def _short(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise _NumberError(text)
    return int(text)


def _mark(text: str) -> Any:
    return float(text) if len(text) <= _MAX_DIGITS and math.isfinite(float(text)) else _BAD_NUMBER


def _lenient(text: str) -> float | None:
    number = float(text)
    if math.isfinite(number):
        return number
    return _LEAST_LOG_PROBABILITY if number < 0 else None


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite, parse_int=_short)
_MARKING_DECODER = json.JSONDecoder(parse_float=_mark, parse_constant=_mark, parse_int=_mark)
_LENIENT_DECODER = json.JSONDecoder(parse_float=_lenient, parse_constant=_lenient)
