"""The secret that keys the hashes of tenants, users and scopes. All replicas share it.

It is configured, or the first replica creates it in Redis. Redis keys, under the prefix of the
settings:

- ``gateway:secret``: the 32 random bytes, unless the secret is configured
- ``gateway:secret_version``: the version of the secret that the data in Redis was written with

A version is a digest of the secret. It identifies the secret without revealing it.
"""

import functools
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from redis.asyncio import Redis

from services.errors import Failure
from services.gateway.alarms import Alarms
from services.gateway.digests import canonical
from services.gateway.redis_store import as_bytes, redis_errors
from services.settings import SettingError

log = logging.getLogger(__name__)

SECRET_BYTES = 32
# A process that was suspended checks the secret before it uses it again after this many seconds.
STALE_SECONDS = 5.0
DIFFERS = "SECRET_DIFFERS"
UNREADABLE = "SECRET_UNREADABLE"
Read = Callable[[], bytes]


def configured_secret(value: str, file: str) -> Read | None:
    """Return a function that reads the configured secret, or None if none is configured.

    Args:
        value: the secret as 64 hexadecimal digits, or empty.
        file: a file that contains such a secret, or empty.

    Raises:
        SettingError: the secret is malformed, the file cannot be read, or both are set.
    """
    if value and file:
        raise SettingError("Set either MEMETWIN_SECRET or MEMETWIN_SECRET_FILE, not both.")
    if file:
        read: Read = lambda: _parse(_content(file), "The file of MEMETWIN_SECRET_FILE")  # noqa: E731
    elif value:
        read = lambda: _parse(value, "MEMETWIN_SECRET")  # noqa: E731
    else:
        return None
    read()
    return read


class SharedSecret:
    """Provides the secret, and notices when it changes.

    Args:
        redis: the client.
        prefix: what every key begins with.
        configured: reads the configured secret. None means that the secret is in Redis.
        alarms: shows that replicas have different secrets.
    """

    def __init__(
        self,
        redis: Redis,
        prefix: str,
        configured: Read | None = None,
        alarms: Alarms | None = None,
    ) -> None:
        self._redis = redis
        self._key = f"{prefix}gateway:secret"
        self._version_key = f"{prefix}gateway:secret_version"
        self._configured = configured
        self._alarms = alarms or Alarms()
        self._secret = b""
        self._recorded = b""  # the secret whose version this replica has compared with Redis'
        self._checked_at = 0.0

    async def read(self) -> bytes:
        """Return the secret. Raises Unavailable if it is not known yet and Redis is unreachable."""
        if not self._secret or time.monotonic() - self._checked_at > STALE_SECONDS:
            await self.check()
        return self._secret

    async def keyed_hash(self, *parts: str) -> str:
        """Return HMAC-SHA256 of a list of strings, hexadecimal. Raises what ``read`` raises."""
        return _keyed_hash(await self.read(), parts)

    async def check(self) -> None:
        """Read the secret again, and create or restore it if Redis does not have it.

        If Redis is unreachable, the known secret stays. ``RedisWatch`` calls this every 2 seconds.

        Raises:
            Unavailable: the secret is not known yet, and Redis is unreachable.
        """
        self._checked_at = time.monotonic()
        try:
            if self._configured:
                self._secret = self._read_configured(self._configured)
            else:
                self._secret = await self._read_stored()
            await self._compare_versions()
        except Failure:
            if not self._secret:
                raise

    def _read_configured(self, read: Read) -> bytes:
        try:
            secret = read()
        except SettingError as error:
            if not self._secret:
                raise
            is_new = self._alarms.set(
                UNREADABLE,
                "The file of MEMETWIN_SECRET_FILE cannot be read, or is malformed. The previous"
                " secret stays in use. The gateway's log says why.",
            )
            if is_new:
                log.warning("the secret cannot be read: %s", error)
            return self._secret
        self._alarms.clear(UNREADABLE)
        return secret

    async def _read_stored(self) -> bytes:
        own = self._secret or secrets.token_bytes(SECRET_BYTES)
        async with redis_errors():
            stored = await self._redis.set(self._key, own, nx=True, get=True)
        return as_bytes(stored) or own

    async def _compare_versions(self) -> None:
        """Record the version of a new secret, and compare that of a known one with the record."""
        version = _version(self._secret)
        async with redis_errors():
            recorded = await self._redis.set(self._version_key, version, nx=True, get=True)
            differs = as_bytes(recorded) not in (b"", version)
            is_new = self._recorded != self._secret
            if differs and is_new:
                log.warning(
                    "the secret has changed, so data that was stored with another secret is no"
                    " longer found",
                    extra={"version": version.decode(), "previous": as_bytes(recorded).decode()},
                )
                await self._redis.set(self._version_key, version)
        self._recorded = self._secret
        if differs and not is_new:
            self._alarms.set(
                DIFFERS,
                "Another replica uses another secret, so the replicas do not see the same data."
                " Give all replicas the same MEMETWIN_SECRET.",
            )
        else:
            self._alarms.clear(DIFFERS)


@functools.lru_cache(4096)
def _keyed_hash(secret: bytes, parts: tuple[str, ...]) -> str:
    return hmac.new(secret, canonical(parts), "sha256").hexdigest()


def _version(secret: bytes) -> bytes:
    return hashlib.sha256(b"memetwin secret version:" + secret).hexdigest()[:16].encode()


def _content(file: str) -> str:
    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"MEMETWIN_SECRET_FILE={file!r} cannot be read: {error}.") from error


def _parse(text: str, origin: str) -> bytes:
    """Return the secret that a text contains. No message quotes the text."""
    try:
        secret = bytes.fromhex(text.strip())
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise SettingError(
            f"{origin} must be {2 * SECRET_BYTES} hexadecimal digits, for example the output of"
            f" 'openssl rand -hex {SECRET_BYTES}'."
        )
    return secret
