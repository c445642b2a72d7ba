"""Partition names and entry ids: keyed hashes of scopes, which no caller can guess or forge."""

import hashlib

from services.gateway.cache.curated import CuratedContext
from services.gateway.cache.owners import Owner
from services.gateway.cache.types import CURATED_ID, Request, Scope
from services.gateway.digests import canonical
from services.gateway.page_tokens import PageTokens
from services.gateway.shared_secret import SharedSecret


class Scopes:
    """Names the partition of each scope with the secret that all replicas share.

    Every method raises Unavailable if Redis is unreachable.

    Attributes:
        page_tokens: writes and reads the tokens of the scopes' lists.
    """

    def __init__(self, secret: SharedSecret) -> None:
        self._secret = secret
        self.page_tokens = PageTokens(secret.read)

    async def partition(self, scope: Scope) -> str:
        """Return the partition of a scope (HMAC-SHA256, hexadecimal)."""
        return await self._secret.keyed_hash(scope.tenant, scope.user, scope.namespace)

    async def tenant_partition(self, tenant: str) -> str:
        """Return the partition for the counters of a whole tenant."""
        return await self._secret.keyed_hash(tenant)

    async def namespace_partition(self, tenant: str, namespace: str) -> str:
        """Return the partition for the counters of a namespace, for all its users together."""
        return await self._secret.keyed_hash(tenant, "*", namespace, "namespace")

    async def owner(self, scope: Scope) -> Owner:
        """Return the partitions of a scope and of its tenant."""
        return Owner(await self.partition(scope), await self.tenant_partition(scope.tenant))

    async def entry_id(self, request: Request) -> str:
        """Return the id of the entry that answers exactly this request."""
        return entry_id(await self.partition(request.scope), request)


def entry_id(partition: str, request: Request) -> str:
    """Return the id of a request's entry in a partition."""
    key = [partition, request.context.fingerprint, request.prompt]
    prefix = CURATED_ID if isinstance(request.context, CuratedContext) else ""
    return prefix + hashlib.sha256(canonical(key)).hexdigest()[:32]
