"""Digests of plain data."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """Return the SHA-256 of JSON data, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


def canonical(value: Any) -> bytes:
    """Return JSON data as bytes; equal data gives equal bytes, whatever the order of its keys."""
    return _ENCODER.encode(value).encode()


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
