"""Deletes all data of a tenant, or the cache entries of one of its users."""

import logging

from services.gateway.admin.store import OwnedKeys
from services.gateway.admin.types import DeletedData
from services.gateway.auth.caller import current_tenant
from services.gateway.backends.collections import CollectionClient
from services.gateway.cache.lookup_log import LookupLog
from services.gateway.cache.owned_entries import Found, OwnedEntries
from services.gateway.cache.scope_names import ScopeNames
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.types import Scope
from services.gateway.tenants import Tenant, Tenants

log = logging.getLogger(__name__)

# Collections that tenants share. The entries of a tenant are deleted from them one by one.
_SHARED_PREFIXES = (".tune-", "cache-")


class AdminService:
    """Administers the data of tenants."""

    def __init__(  # noqa: PLR0913 - wired once
        self,
        tenants: Tenants,
        scopes: Scopes,
        entries: OwnedEntries,
        keys: OwnedKeys,
        collections: CollectionClient,
        *,
        names: ScopeNames,
        lookups: LookupLog,
    ) -> None:
        self._tenants = tenants
        self._scopes = scopes
        self._entries = entries
        self._keys = keys
        self._collections = collections
        self._names = names
        self._lookups = lookups

    async def delete_data(self, requested: str, user: str | None, *, force: bool) -> DeletedData:
        """Count the data of a tenant, and delete it if ``force`` is set.

        Args:
            requested: the tenant, see ``current_tenant``.
            user: only the cache entries in scopes of this user, or None for everything.
            force: whether to delete.

        Raises:
            PermissionDenied: the caller's key belongs to another tenant.
            Unavailable: Redis or search is unreachable. The call can be repeated.
        """
        name = current_tenant(requested)
        found = await self._find(name, user)
        hashes = await self._hashes(name, user, found)
        tenant = await self._tenants.get(name)
        hash_tag = tenant.hash_tag("").removesuffix("}") if user is None else ""
        collections = await self._owned_collections(tenant) if user is None else []
        if force:
            await self._entries.delete(found)
            await self._forget(name, user)
        # Counted after the entries are gone, whose keys have neither a hash nor a tag.
        kinds = await self._keys.count(hash_tag, hashes)
        deleted = DeletedData(
            found.count,
            kinds["document"],
            kinds["twin-record"],
            len(collections),
            kinds.total() - kinds["document"] - kinds["twin-record"],
        )
        if force:
            for collection in collections:
                await self._collections.delete(collection)
            await self._keys.delete(hash_tag, hashes)
        log.info(
            "data of a tenant",
            extra={"tenant": tenant.tag, "force": force, "entries": found.count},
        )
        return deleted

    async def _find(self, name: str, user: str | None) -> Found:
        return await self._entries.find(
            lambda scope: scope.tenant == name and user in (None, scope.user)
        )

    async def _forget(self, name: str, user: str | None) -> None:
        """Delete the name of a tenant, or the lookups of one of its users."""
        if user is None:
            await self._names.forget_tenant(name)
        else:
            await self._lookups.forget_user(await self._scopes.tenant_partition(name), user)

    async def _hashes(self, name: str, user: str | None, found: Found) -> set[str]:
        """Return the hashes of scopes, and that of the tenant unless only a user's data counts."""
        if user is None:
            tenant = await self._scopes.tenant_partition(name)
            return {tenant, *found.scopes, *await self._keys.scopes(tenant)}
        return {*found.scopes, await self._scopes.partition(Scope(name, user, ""))}

    async def _owned_collections(self, tenant: Tenant) -> list[str]:
        names = [one.name for one in await self._collections.list_all()]
        return [
            name
            for name in names
            if tenant.plain_name(name) is not None and not name.startswith(_SHARED_PREFIXES)
        ]
