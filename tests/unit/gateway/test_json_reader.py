import json
import sys
from typing import Any

import pytest

from services.gateway.json_reader import MAX_DEPTH, JsonError, read_lenient_object, read_object


def lists(depth: int) -> bytes:
    """Return an object with lists in lists, so that it has this depth."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": [1, 2.5, None, True, {"b": "c"}]},
        {"quotes": '"[{,', "backslash": "\\", "both": '\\"', "end": '\\\\"'},
        {"text": "Ünïcode 🙂 \u2028"},
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_an_object_is_read_as_it_was_written(value: Any, ascii_only: bool) -> None:
    assert read_object(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


def test_a_byte_order_mark_is_ignored() -> None:
    assert read_object(b"\xef\xbb\xbf{}") == {}


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"1", b'"a"', b"\xff", "{}".encode("utf-16"), b'{"a": ' + b"1" * 5000 + b"}"]
    + [b'{"a": %b}' % value for value in (b"NaN", b"-Infinity", b"1e999", b'"\n"')],
)
def test_any_other_text_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="The body"):
        read_object(text)


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\uDE42", rb"\ud83d \ude42", rb"\\\ud83d"])
def test_half_a_surrogate_pair_is_refused(half: bytes) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        read_object(b'{"a": "%b"}' % half)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (rb'{"messages": [{}, {"content": "a \ud83d"}]}', "messages[1].content"),
        (b'{"temperature": NaN}', "temperature"),
        (b'{"a": [1, 2.5, {"b": 1e999}]}', "a[2].b"),
        (b'{"seed": ' + b"9" * 4301 + b"}", "seed"),
        (rb'{"\ud83d": {"a": Infinity}}', "?.a"),
        (rb'{"\ud83d": 1}', ""),
        (b'{"%b": NaN}' % (b"n" * 1000), "n" * 200),
        (b"{", ""),
    ],
)
def test_an_error_names_the_value(text: bytes, field: str) -> None:
    with pytest.raises(JsonError) as caught:
        read_object(text)
    assert caught.value.field == field
    assert str(caught.value).encode()


def test_lenient_reading_replaces_numbers_that_are_not_finite() -> None:
    text = rb'{"a": [-Infinity, NaN, 1e999, -1e999], "b": "\ud83d"}'
    read = read_lenient_object(text, name="The answer", max_values=10)
    assert read == {"a": [-9999.0, None, None, -9999.0], "b": "\ud83d"}
    with pytest.raises(JsonError, match="The answer"):
        read_lenient_object(b"[]", name="The answer", max_values=10)


def test_a_whole_surrogate_pair_is_a_character_and_an_escaped_backslash_starts_none() -> None:
    assert read_object(rb'{"a": "\ud83d\ude42", "b": "\\ud83d"}') == {"a": "🙂", "b": r"\ud83d"}


def test_the_depth_is_limited_before_the_parser_recurses() -> None:
    assert read_object(lists(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 40_000, 10 * sys.getrecursionlimit()):
        with pytest.raises(ValueError, match="nested deeper"):
            read_object(lists(depth))


def test_brackets_and_commas_in_strings_are_not_counted() -> None:
    text = {"text": "[{," * 1000, "escaped": '"[' * 1000}
    assert read_object(json.dumps(text).encode(), max_values=10) == text


@pytest.mark.parametrize("values", [[[]] * 99, [1] * 99, ["a"] * 99, [{}] * 99, [{"a": 1}] * 99])
def test_values_are_limited_before_they_are_created(values: list[object]) -> None:
    text = json.dumps({"values": values}).encode()
    assert read_object(text, max_values=300)
    with pytest.raises(ValueError, match="more than 98 values"):
        read_object(text, max_values=98)


def test_strings_are_limited_before_they_are_split() -> None:
    with pytest.raises(ValueError, match="more than 10 values"):
        read_object(b'"' * 1_000_000, max_values=10)


@pytest.mark.parametrize("offset", range(4))
@pytest.mark.parametrize("escape", [rb"\"[", rb"\\", rb"\\\"{", rb"\u005b"])
def test_escapes_between_the_pieces_of_a_long_text_are_read(offset: int, escape: bytes) -> None:
    text = b'{"a":"' + b"x" * offset + escape * 100_000 + b'","b":[1,2]}'
    assert read_object(text, max_values=5) == json.loads(text)
    with pytest.raises(ValueError, match="more than 3 values"):
        read_object(text, max_values=3)


def test_the_depth_of_a_long_text_is_that_of_all_its_pieces() -> None:
    padding = b" " * 100_000
    opened = padding.join([b"["] * (MAX_DEPTH - 1))
    closed = padding.join([b"]"] * (MAX_DEPTH - 1))
    assert read_object(b'{"a":' + opened + closed + b"}")
    with pytest.raises(ValueError, match="nested deeper"):
        read_object(b'{"a":[' + opened + closed + b"]}")
