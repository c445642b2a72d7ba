"""Digests of plain data."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any


def digest(value: Any) -> str:
    """Return the SHA-256 of JSON data, in hexadecimal."""
    hasher = hashlib.sha256()
    for part in _parts(value):
        hasher.update(part)
    return hasher.hexdigest()


def canonical(value: Any) -> bytes:
    """Return JSON data as bytes. Equal data gives equal bytes, regardless of the order of keys."""
    return _ENCODER.encode(value).encode()


def _parts(value: Any) -> Iterator[bytes]:
    """Yield the bytes of ``canonical`` in parts. Other threads can run between them."""
    if not isinstance(value, list | tuple) or len(value) <= _STEP:
        yield canonical(value)
        return
    for start in range(0, len(value), _STEP):
        yield b"," if start else b"["
        yield canonical(value[start : start + _STEP])[1:-1]
    yield b"]"


# Elements of a list that are encoded at once. Meanwhile no other thread runs.
_STEP = 256
_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
