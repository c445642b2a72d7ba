"""What the cache holds, seen by its owner: read, listed, deleted, judged, purged with a record."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict

from services.errors import NotFound
from services.gateway import auth
from services.gateway.backends.search import SearchClient
from services.gateway.cache.index import collection
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.store import CacheStore
from services.gateway.cache.types import Entry, Purge, Purged, Scope, entry_of

log = logging.getLogger(__name__)

PURGE_PAGE = 500
SAMPLE = 10


class CacheAdmin:
    """Reads and deletes entries of a scope."""

    def __init__(self, scopes: Scopes, store: CacheStore, search: SearchClient) -> None:
        self._scopes = scopes
        self._store = store
        self._search = search

    async def get(self, scope: Scope, key: str) -> Entry:
        """Read an entry of a scope. Raises NotFound for what is not there, or in another scope."""
        record = await self._store.entry(key)
        entry = entry_of(record) if record else None
        if entry is None or entry.scope != scope:
            raise NotFound("ENTRY_NOT_FOUND", "This scope has no such entry.", field="id", id=key)
        return entry

    async def delete(self, scope: Scope, key: str) -> None:
        """Delete an entry of a scope."""
        await self._forget(scope, [await self.get(scope, key)])

    async def page(self, scope: Scope, size: int, token: str) -> tuple[list[Entry], str]:
        """Return a page of a scope's entries by id, and the next page's token."""
        partition = await self._scopes.partition(scope)
        records, following = await self._store.entries(partition, size, token)
        return [entry_of(record) for record in records], following

    async def purge(self, scope: Scope, wanted: Purge) -> tuple[int, list[Entry]]:
        """Count the entries that meet a filter, and delete them if forced; return some of them.

        Raises:
            InvalidArgument: everything would be deleted, and that was not said.
        """
        wanted.check()
        partition, token, count = await self._scopes.partition(scope), "", 0
        if wanted.force:
            await self._store.begin_purge(partition)
        sample: list[Entry] = []
        while True:
            page, token = await self.page(scope, PURGE_PAGE, token)
            met = [entry for entry in page if wanted.meets(entry)]
            count += len(met)
            sample += met[: SAMPLE - len(sample)]
            if met and wanted.force:
                await self._forget(scope, met)
            if not token:
                break
        log.info("purge", extra={"partition": partition, "entries": count, "force": wanted.force})
        if wanted.force:
            purged = Purged(time.time(), auth.current_key_name(), wanted.told(), count)
            await self._store.audit(partition, asdict(purged))
        return count, sample

    async def purged(self, scope: Scope, size: int, token: str) -> tuple[list[Purged], str]:
        """Return a page of a scope's purges, newest first, and the next page's token."""
        partition = await self._scopes.partition(scope)
        records, following = await self._store.audited(partition, size, token)
        return [Purged(**record) for record in records], following

    async def judge(self, scope: Scope, key: str, *, correct: bool) -> bool:
        """Note whether an entry answered rightly; delete it if not, and say if it is gone."""
        entry = await self.get(scope, key)
        counts = {"right" if correct else "wrong": 1}
        whole = await self._scopes.tenant_partition(scope.tenant)
        await self._store.count(await self._scopes.partition(scope), counts, history=False)
        await self._store.count(whole, counts, history=True)
        if not correct:
            await self._forget(scope, [entry])
        return not correct

    async def _forget(self, scope: Scope, entries: Sequence[Entry]) -> None:
        """Delete entries, from the ledger first: what is not there is never served."""
        await self._store.delete([entry.id for entry in entries])
        partition = await self._scopes.partition(scope)
        for digest in {entry.digest for entry in entries}:
            ids = [entry.id for entry in entries if entry.digest == digest]
            await self._search.delete(collection(digest, partition), ids)
