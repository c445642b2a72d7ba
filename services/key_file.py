"""Reads the file of API keys, which says what each key may do.

The file is JSON: a list of keys, or an object with ``keys`` and with the ``tenants`` that have
limits. ``docs/configuration.md`` describes the fields.
"""

import dataclasses
import hashlib
import json
import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

FEATURES = ("cache", "chat", "rag", "twin", "search", "embed")
ADMIN = "admin"
ANY_USER = "*"
ID_DIGITS = 8
_ACCESS = ("read", "write")
ALL_BUT_ADMIN = frozenset(f"{feature}:{access}" for feature in FEATURES for access in _ACCESS)
_KEY_PREFIX = "mtw_"  # lets scanners find keys that were published by mistake
_SHA256 = re.compile(r"[0-9a-f]{64}")
Row = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """The limits of a key or of a tenant; None means no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    money_per_day: float | None = None
    concurrent_calls: int | None = None

    def __bool__(self) -> bool:
        return self != _NO_LIMITS


_NO_LIMITS = Limits()


@dataclass(frozen=True)
class Key:
    """An API key.

    Attributes:
        sha256: the SHA-256 of the key, in hexadecimal.
        tenant: the tenant that the key belongs to.
        name: the name that people gave it.
        rights: what it may be used for, such as ``rag:read`` or ``admin``.
        collections: the collections of documents and of search that it may use; None for all.
        user: the only user of its scopes; ``*`` for any.
        namespaces: the namespaces of its scopes, the default one first; None for all.
        max_error_rate: the bound for calls that name none, or None.
        not_after: when it expires, in seconds since the epoch.
        limits: its limits.
    """

    sha256: str
    tenant: str
    name: str = ""
    rights: frozenset[str] = ALL_BUT_ADMIN
    collections: frozenset[str] | None = None
    user: str = ANY_USER
    namespaces: tuple[str, ...] | None = None
    max_error_rate: float | None = None
    not_after: float = math.inf
    limits: Limits = Limits()

    @property
    def id(self) -> str:
        """The first digits of the hash, for people, logs and records."""
        return self.sha256[:ID_DIGITS]


@dataclass(frozen=True)
class KeyFile:
    """The keys by their SHA-256, and the limits of tenants."""

    keys: Mapping[str, Key] = field(default_factory=dict)
    tenants: Mapping[str, Limits] = field(default_factory=dict)


def parse(text: str | bytes) -> KeyFile:
    """Read the text of a file.

    Raises:
        ValueError: the text is not valid; the message says where.
    """
    data = json.loads(text)
    if isinstance(data, list):
        data = {"keys": data}
    if not isinstance(data, dict) or not data.keys() <= {"keys", "tenants"}:
        raise ValueError("expected a list of keys, or an object with keys and tenants")
    keys: dict[str, Key] = {}
    for number, row in enumerate(_checked(data.get("keys", []), list, "keys")):
        key = _at(f"keys[{number}]", _read_key, row)
        if key.sha256 in keys:
            raise ValueError(f"keys[{number}]: the key {key.id} is listed twice")
        keys[key.sha256] = key
    tenants = {
        tenant: _at(f"tenants.{tenant}", _read_limits, limits)
        for tenant, limits in _checked(data.get("tenants", {}), dict, "tenants").items()
    }
    return KeyFile(keys, tenants)


def expand_rights(names: Iterable[str]) -> frozenset[str]:
    """Return the rights that names stand for: ``rag`` is ``rag:read`` and ``rag:write``.

    Raises:
        ValueError: a name is not a right.
    """
    rights: set[str] = set()
    for name in names:
        expanded = {f"{name}:{access}" for access in _ACCESS} if name in FEATURES else {name}
        if not expanded <= ALL_BUT_ADMIN | {ADMIN}:
            features = ", ".join(FEATURES)
            raise ValueError(
                f"{name!r} is not a right. Rights are {features} (each also with :read or :write)"
                f" and {ADMIN}"
            )
        rights |= expanded
    return frozenset(rights)


def parse_time(text: str) -> float:
    """Return an RFC 3339 time in seconds since the epoch.

    Raises:
        ValueError: it is not such a time, or has no offset.
    """
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        time = datetime.min
    if time.tzinfo is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time such as 2030-01-31T12:00:00Z")
    return time.timestamp()


def format_time(seconds: float) -> str:
    """Return a time as RFC 3339, or an empty text for one that never comes."""
    if seconds == math.inf:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def new_key() -> tuple[str, str]:
    """Return a new random key and its SHA-256."""
    key = _KEY_PREFIX + secrets.token_urlsafe(32)
    return key, sha256(key)


def sha256(key: str) -> str:
    """Return the SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def _at(place: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _read_key(row: Any) -> Key:
    row = _checked(row, dict, "a key")
    _refuse_unknown(row, Key)
    digest = _text(row, "sha256").lower()
    if not _SHA256.fullmatch(digest):
        raise ValueError("sha256 must have 64 hexadecimal digits")
    values: Row = {"sha256": digest, "tenant": _text(row, "tenant")}
    values |= {name: _text(row, name) for name in ("name", "user") if name in row}
    if "rights" in row:
        values["rights"] = expand_rights(_texts(row, "rights"))
    if "collections" in row:
        values["collections"] = frozenset(_texts(row, "collections"))
    if "namespaces" in row:
        values["namespaces"] = tuple(_texts(row, "namespaces"))
        if not values["namespaces"]:
            raise ValueError("namespaces must name at least one; leave it out to allow all")
    if "max_error_rate" in row:
        values["max_error_rate"] = _error_rate(row["max_error_rate"])
    if "not_after" in row:
        values["not_after"] = parse_time(row["not_after"])
    if "limits" in row:
        values["limits"] = _read_limits(row["limits"])
    return Key(**values)


def _read_limits(row: Any) -> Limits:
    row = _checked(row, dict, "limits")
    _refuse_unknown(row, Limits)
    for name, value in row.items():
        kinds = (int, float) if name == "money_per_day" else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number of 0 or more")
    return Limits(**row)


def _refuse_unknown(row: Row, kind: type) -> None:
    known = [one.name for one in dataclasses.fields(kind)]
    if unknown := sorted(row.keys() - known):
        raise ValueError(f"unknown field {unknown[0]!r}; the fields are {', '.join(known)}")


def _checked(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a JSON {'object' if kind is dict else 'list'}")
    return value


def _text(row: Row, name: str) -> str:
    if not isinstance(row.get(name), str):
        raise ValueError(f"{name} must be a text")
    return str(row[name])


def _texts(row: Row, name: str) -> list[str]:
    values = row[name]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{name} must be a list of texts")
    return values


def _error_rate(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, float) or not 0 < value < 1:
        raise ValueError("max_error_rate must be between 0 and 1, both excluded")
    return value
