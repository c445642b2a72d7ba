"""Digests of plain data."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """Return the SHA-256 of JSON data, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


def canonical(value: Any) -> bytes:
    """Return JSON data as bytes. Equal data gives equal bytes, regardless of the order of keys."""
    return _ENCODER.encode(value).encode()


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
