"""Authenticates callers by API keys, and reads the file of the keys again when it changes.

Without a file, callers are not authenticated and name their tenant themselves. If a changed file
cannot be read, the keys that were read before stay valid.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from services import key_file
from services.errors import PermissionDenied, Unauthenticated
from services.gateway.alarms import Alarms
from services.gateway.auth.caller import TokenKey
from services.gateway.auth.calls import Admission, PendingCall, RunningCall
from services.gateway.auth.limit_store import subjects_of
from services.gateway.auth.limiter import LimitedCall, Limiter
from services.gateway.auth.rights import right_of_route, right_of_rpc
from services.key_file import Key, KeyFile, Limits
from services.settings import SettingError

POLL_PERIOD = 1.0  # seconds
if TYPE_CHECKING:  # the libraries for tokens take memory that few gateways need
    from services.gateway.auth.oidc import TokenVerifier

log = logging.getLogger(__name__)
_ALARM = "API_KEYS_FILE_NOT_READ"
_DOTS_OF_A_TOKEN = 2
_Version = tuple[int, int, int]


class ApiKeys:
    """The known keys. Without keys, every caller may do everything.

    Args:
        keys: the keys and the limits of tenants; None if callers need no key.
        path: the file that the keys come from, to read it again.
        alarms: where a file that cannot be read is reported.
        limiter: counts the calls of keys that have limits; None admits them all.
        tokens: verifies the tokens of an identity provider; None accepts none.
        clock: returns the time in seconds since the epoch.
    """

    def __init__(  # noqa: PLR0913 - wired once
        self,
        keys: KeyFile | None,
        path: Path | None = None,
        alarms: Alarms | None = None,
        limiter: Limiter | None = None,
        *,
        tokens: "TokenVerifier | None" = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limiter, self._tokens = limiter, tokens
        self._file, self._path, self._clock = keys, path, clock
        self._alarms = alarms or Alarms()
        self._version: _Version | None = None
        self._calls: set[RunningCall] = set()
        self._changed = asyncio.Event()

    @classmethod
    def load(
        cls,
        file: str,
        alarms: Alarms | None = None,
        limiter: Limiter | None = None,
        tokens: "TokenVerifier | None" = None,
    ) -> "ApiKeys":
        """Read a file of keys. Without a file and a verifier of tokens, callers need no key.

        Raises:
            SettingError: the file cannot be read or is not valid.
        """
        if not file:
            return cls(KeyFile() if tokens else None, None, alarms, limiter, tokens=tokens)
        version = _version(Path(file))
        try:
            keys = key_file.parse(Path(file).read_bytes())
        except (OSError, ValueError) as error:
            raise SettingError(
                f"MEMETWIN_API_KEYS_FILE={file!r} is not a valid file of API keys: {error}"
            ) from error
        if not keys.keys:
            log.warning("the file of API keys has no key, so every call is refused")
        loaded = cls(keys, Path(file), alarms, limiter, tokens=tokens)
        loaded._version = version
        return loaded

    @property
    def are_required(self) -> bool:
        """Whether callers need a key."""
        return self._file is not None

    def authenticate_rpc(self, method: str, authorization: str) -> Admission | None:
        """Authenticate the caller of an rpc, see ``authenticate``.

        Args:
            method: full method name; empty for reflection and for methods that do not exist.
            authorization: the ``authorization`` metadata.
        """
        return self.authenticate(right_of_rpc(method), authorization)

    def authenticate_route(self, method: str, path: str, authorization: str) -> Admission | None:
        """Authenticate the caller of a request over HTTP, see ``authenticate``."""
        return self.authenticate(right_of_route(method, path), authorization)

    def authenticate(self, right: str, authorization: str) -> Admission | None:
        """Authenticate the caller of the current call, and check one of its rights.

        Args:
            right: the right that the call requires; empty if it requires none.
            authorization: ``Bearer KEY``.

        Returns:
            What the call must run inside; None if callers need no key.

        Raises:
            Unauthenticated: the header contains no known key.
            PermissionDenied: the key lacks the right.
        """
        if self._file is None:
            return None
        key = self._find(self._file, authorization)
        if key is None:
            return PendingCall(partial(self._authenticate_later, right, authorization))
        return self._call(right, key, self._file)

    async def _authenticate_later(self, right: str, authorization: str) -> RunningCall:
        """Authenticate the caller of a token whose signature needs a key that is not known yet."""
        if self._tokens:
            await self._tokens.refresh()
        file = self._file or KeyFile()
        key = self._find(file, authorization)
        if key is None:
            raise _unknown()
        return self._call(right, key, file)

    def _call(self, right: str, key: Key, file: KeyFile) -> RunningCall:
        if right and right not in key.rights:
            raise PermissionDenied(
                "RIGHT_MISSING", f"This API key lacks the right {right!r}.", right=right
            )
        return RunningCall(key, self._calls, self._limited(key, file))

    def _limited(self, key: Key, file: KeyFile) -> LimitedCall | None:
        """Return what counts a call with a key; None if no limits apply to it."""
        tenant_limits = file.tenants.get(key.tenant)
        if self._limiter is None or not (key.limits or tenant_limits):
            return None
        return LimitedCall(self._limiter, subjects_of(key, tenant_limits or Limits()))

    def _find(self, file: KeyFile, authorization: str) -> Key | None:
        """Return the caller's key; None if the key of a token's signature is not known yet."""
        scheme, _, text = authorization.partition(" ")
        key = file.keys.get(key_file.sha256(text.strip()))
        if scheme.lower() != "bearer":
            raise _unknown()
        if key is None:
            if self._tokens is None or text.count(".") != _DOTS_OF_A_TOKEN:
                raise _unknown()
            return self._tokens.verify(text.strip())
        if self._clock() >= key.not_after:
            raise Unauthenticated(
                "API_KEY_EXPIRED", "This API key has expired. Use another key.", key=key.id
            )
        return key

    def reload(self) -> None:
        """Read the file again soon, even if it looks unchanged."""
        self._version = None
        self._changed.set()

    def set_keys(self, keys: KeyFile) -> None:
        """Replace the keys, and end the calls of those that are no longer valid."""
        self._file = keys
        self._end_calls()

    async def watch(self) -> None:
        """Read the file when it changes, and end the calls of keys that are no longer valid."""
        if self._file is None:
            return
        parts = [part.watch() for part in (self._limiter, self._tokens) if part]
        await asyncio.gather(self._watch_file(), *parts)

    async def _watch_file(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), POLL_PERIOD)
            self._changed.clear()
            if self._path:
                await self._read_if_changed(self._path)
            self._end_calls()

    async def _read_if_changed(self, path: Path) -> None:
        version = await asyncio.to_thread(_version, path)
        if version == self._version:
            return
        self._version = version
        try:
            file = await asyncio.to_thread(lambda: key_file.parse(path.read_bytes()))
        except (OSError, ValueError, RecursionError) as error:
            self._alarms.set(
                _ALARM,
                "The changed file of API keys is not valid, so the earlier keys stay in force. The"
                " log says why.",
            )
            log.error("cannot read the file of API keys", extra={"error": str(error)})
            return
        self._alarms.clear(_ALARM)
        self.set_keys(file)
        log.info("read the file of API keys", extra={"keys": len(file.keys)})

    def _end_calls(self) -> None:
        """End the running calls of keys that were removed or have expired."""
        now, file = self._clock(), self._file or KeyFile()
        for call in list(self._calls):
            key = file.keys.get(call.key.sha256)
            if isinstance(call.key, TokenKey):
                key = call.key
            if key is None or now >= key.not_after:
                call.end()


def _unknown() -> Unauthenticated:
    return Unauthenticated(
        "UNKNOWN_API_KEY",
        "The call has no valid API key. Send the header Authorization: Bearer KEY.",
    )


def _version(path: Path) -> _Version | None:
    """Return what changes when a file is written or replaced; None if the file is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116 - follows links, as Kubernetes' secrets need
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
