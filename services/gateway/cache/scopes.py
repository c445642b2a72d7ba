"""The hard partitions of the cache: keyed hashes of scopes, which nobody can guess or forge."""

import functools
import hmac

from services.gateway.cache.types import Scope, canonical
from services.gateway.ledger import Ledger


class Partitions:
    """Names partitions by the secret that all replicas share."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def of(self, scope: Scope) -> str:
        """Return the partition of a scope (HMAC-SHA256, hexadecimal)."""
        return _named(await self._ledger.secret(), (scope.tenant, scope.user, scope.namespace))

    async def of_tenant(self, tenant: str) -> str:
        """Return the place of what is counted for all scopes of a tenant."""
        return _named(await self._ledger.secret(), (tenant,))


@functools.lru_cache(4096)
def _named(secret: bytes, parts: tuple[str, ...]) -> str:
    return hmac.new(secret, canonical(parts), "sha256").hexdigest()
