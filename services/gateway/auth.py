"""Who calls: API keys name the tenant and the rights, whatever the caller claims.

The file of ``MEMETWIN_API_KEYS_FILE`` is a JSON list of objects: ``sha256`` of the key (in
hexadecimal, never the key), ``tenant`` and ``rights``. Rights are ``cache``, ``chat``, ``rag`` and
``twin``; where none are named a key has all. ``max_error_rate`` holds for the calls of a key that
name no bound themselves. Without a file callers name their tenant themselves.
"""

import contextvars
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.errors import PermissionDenied, Unauthenticated
from services.settings import SettingError

RIGHTS = frozenset({"cache", "chat", "rag", "twin"})


@dataclass(frozen=True)
class Caller:
    """Who a key belongs to, what it may do, its name (how its hash begins), its error budget."""

    tenant: str
    rights: frozenset[str]
    name: str = ""
    max_error_rate: float | None = None


_caller: contextvars.ContextVar[Caller | None] = contextvars.ContextVar("caller", default=None)


class ApiKeys:
    """Knows callers by their keys; without keys everybody may do everything."""

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        self._callers = callers

    @classmethod
    def load(cls, file: str) -> "ApiKeys":
        """Read the file of keys; an empty name means there is none.

        Raises:
            SettingError: it cannot be read, or is not what it should be.
        """
        if not file:
            return cls({})
        try:
            rows = json.loads(Path(file).read_text())
            callers = {row["sha256"].lower(): _caller_of(row) for row in rows}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingError(f"MEMETWIN_API_KEYS_FILE={file!r} is no file of keys") from error
        if not callers:
            raise SettingError(f"MEMETWIN_API_KEYS_FILE={file!r} has no key")
        return cls(callers)

    def authenticate(self, right: str, authorization: str) -> None:
        """Let a caller in by an ``Authorization`` header; what runs on knows the tenant.

        Raises:
            Unauthenticated: the header has no known key.
            PermissionDenied: the key lacks this right.
        """
        if not self._callers:
            return
        scheme, _, key = authorization.partition(" ")
        caller = self._callers.get(hashlib.sha256(key.strip().encode()).hexdigest())
        if scheme.lower() != "bearer" or caller is None:
            raise Unauthenticated(
                "UNKNOWN_API_KEY", "Send a known API key: Authorization: Bearer KEY."
            )
        if right not in caller.rights:
            raise PermissionDenied(
                "RIGHT_MISSING", f"This key has no right to {right}.", right=right
            )
        _caller.set(caller)


def tenant(claimed: str) -> str:
    """Return the caller's tenant, from the key if there are keys.

    Raises:
        PermissionDenied: the caller claims another.
    """
    caller = _caller.get()
    if caller is None:
        return claimed
    if claimed not in ("", caller.tenant):
        raise PermissionDenied(
            "OTHER_TENANT",
            "This key belongs to another tenant; leave tenant empty.",
            field="scope.tenant",
        )
    return caller.tenant


def name() -> str:
    """Return the name of the caller's key; empty if no keys are asked for."""
    caller = _caller.get()
    return caller.name if caller else ""


def max_error_rate() -> float | None:
    """Return the largest share of wrong hits by the caller's key, or None if it names none."""
    caller = _caller.get()
    return caller.max_error_rate if caller else None


def _caller_of(row: dict[str, object]) -> Caller:
    rights = row.get("rights", RIGHTS)
    if not isinstance(rights, list | frozenset) or not RIGHTS.issuperset(rights):
        raise ValueError("unknown rights")
    rate = row.get("max_error_rate")
    if rate is not None and not (isinstance(rate, float) and 0 < rate < 1):
        raise ValueError("max_error_rate lies in (0, 1)")
    name = str(row["sha256"])[:8].lower()
    return Caller(str(row["tenant"]), frozenset(map(str, rights)), name, rate)
