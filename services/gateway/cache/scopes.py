"""Partition names and entry ids: keyed hashes of scopes, which no caller can guess or forge.

Redis key, under the prefix of the settings: ``gateway:secret`` holds the 32 random bytes that key
the hashes. The first replica that needs the secret creates it. If Redis loses its data, the
replicas agree on one secret within ``SECRET_SECONDS``.
"""

import functools
import hashlib
import hmac
import secrets
import time

from redis.asyncio import Redis

from services.errors import Failure
from services.gateway.cache.curated import CuratedContext
from services.gateway.cache.types import CURATED_ID, Request, Scope
from services.gateway.digests import canonical
from services.gateway.redis_store import as_bytes, redis_errors

SECRET_SECONDS = 10.0


class Scopes:
    """Names the partition of each scope with the secret that all replicas share.

    Every method raises Unavailable if Redis is unreachable.
    """

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._key = f"{prefix}gateway:secret"
        self._secret = b""
        self._read_at = 0.0

    async def partition(self, scope: Scope) -> str:
        """Return the partition of a scope (HMAC-SHA256, hexadecimal)."""
        return _keyed_hash(await self.read_secret(), (scope.tenant, scope.user, scope.namespace))

    async def tenant_partition(self, tenant: str) -> str:
        """Return the partition for the counters of a whole tenant."""
        return _keyed_hash(await self.read_secret(), (tenant,))

    async def entry_id(self, request: Request) -> str:
        """Return the id of the entry that answers exactly this request."""
        return entry_id(await self.partition(request.scope), request)

    async def read_secret(self) -> bytes:
        """Return the secret; read it again from time to time, and restore it if Redis lost it."""
        if not self._secret or time.monotonic() - self._read_at > SECRET_SECONDS:
            own = self._secret or secrets.token_bytes(32)
            self._read_at = time.monotonic()
            try:
                async with redis_errors():
                    stored = await self._redis.set(self._key, own, nx=True, get=True)
            except Failure:
                if not self._secret:
                    raise
            else:
                self._secret = as_bytes(stored) or own
        return self._secret


def entry_id(partition: str, request: Request) -> str:
    """Return the id of a request's entry in a partition."""
    key = [partition, request.context.fingerprint, request.prompt]
    prefix = CURATED_ID if isinstance(request.context, CuratedContext) else ""
    return prefix + hashlib.sha256(canonical(key)).hexdigest()[:32]


@functools.lru_cache(4096)
def _keyed_hash(secret: bytes, parts: tuple[str, ...]) -> str:
    return hmac.new(secret, canonical(parts), "sha256").hexdigest()
