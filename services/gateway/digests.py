"""Digests of plain data."""

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """Return the sha256 of plain data, hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


def canonical(value: Any) -> bytes:
    """Return plain data as bytes that are the same for the same data."""
    return _ENCODER.encode(value).encode()


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))
