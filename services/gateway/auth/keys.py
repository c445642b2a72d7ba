"""Authenticates callers by API keys. A key determines its caller's tenant and rights.

The file of ``MEMETWIN_API_KEYS_FILE`` is a JSON list of objects:

- ``sha256``: the SHA-256 of the key in hexadecimal. The file never contains the key itself.
- ``tenant``: the tenant that the key belongs to.
- ``rights``: a list of ``cache``, ``chat``, ``rag`` and ``twin``; a key without it has all rights.
- ``max_error_rate``: the bound, in (0, 1), for calls with this key that name no bound.

Without a file, callers are not authenticated and name their tenant themselves.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from services.errors import PermissionDenied, Unauthenticated
from services.gateway.auth.caller import Caller, set_caller
from services.settings import SettingError

RIGHTS = frozenset({"cache", "chat", "rag", "twin"})


class ApiKeys:
    """The known keys, by their SHA-256. Without keys, every caller has all rights."""

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        self._callers = callers

    @classmethod
    def load(cls, file: str) -> "ApiKeys":
        """Read a file of keys. An empty name means that there are no keys.

        Raises:
            SettingError: the file cannot be read or is not valid.
        """
        if not file:
            return cls({})
        try:
            rows = json.loads(Path(file).read_text())
            callers = {row["sha256"].lower(): _read_caller(row) for row in rows}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingError(
                f"MEMETWIN_API_KEYS_FILE={file!r} is not a valid file of API keys: {error!r}"
            ) from error
        if not callers:
            raise SettingError(f"MEMETWIN_API_KEYS_FILE={file!r} has no key; add one or unset it")
        return cls(callers)

    def authenticate(self, right: str, authorization: str) -> None:
        """Authenticate the caller of the current call, and check one of its rights.

        Args:
            right: what the call requires, one of ``RIGHTS``.
            authorization: the ``Authorization`` header: ``Bearer KEY``.

        Raises:
            Unauthenticated: the header contains no known key.
            PermissionDenied: the key lacks the right.
        """
        if not self._callers:
            return
        scheme, _, key = authorization.partition(" ")
        caller = self._callers.get(hashlib.sha256(key.strip().encode()).hexdigest())
        if scheme.lower() != "bearer" or caller is None:
            raise Unauthenticated(
                "UNKNOWN_API_KEY",
                "The call has no valid API key. Send the header Authorization: Bearer KEY.",
            )
        if right not in caller.rights:
            raise PermissionDenied(
                "RIGHT_MISSING", f"This API key lacks the right {right!r}.", right=right
            )
        set_caller(caller)


def _read_caller(row: dict[str, object]) -> Caller:
    rights = row.get("rights", RIGHTS)
    if not isinstance(rights, list | frozenset) or not RIGHTS.issuperset(rights):
        raise ValueError(f"rights must be a list of {', '.join(sorted(RIGHTS))}")
    rate = row.get("max_error_rate")
    if rate is not None and not (isinstance(rate, float) and 0 < rate < 1):
        raise ValueError("max_error_rate must be between 0 and 1, both excluded")
    key_name = str(row["sha256"])[:8].lower()
    return Caller(str(row["tenant"]), frozenset(map(str, rights)), key_name, rate)
