"""Lets the owner of a scope read, list, delete and purge its entries."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict

from services.errors import Failure, NotFound
from services.gateway.auth.caller import current_key_name
from services.gateway.backends.search import SearchClient
from services.gateway.cache.eviction import Eviction
from services.gateway.cache.index import collection_name
from services.gateway.cache.lookup_log import LookupLog
from services.gateway.cache.purge_store import PurgeStore
from services.gateway.cache.purging import PurgeRecord, PurgeRequest
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.store import CacheStore
from services.gateway.cache.types import Entry, Scope
from services.gateway.redis_store import from_record

log = logging.getLogger(__name__)

PURGE_PAGE = 500
SAMPLE_SIZE = 10


class CacheAdmin:
    """Reads and deletes the entries of a scope."""

    def __init__(  # noqa: PLR0913, PLR0917 - wired once
        self,
        scopes: Scopes,
        store: CacheStore,
        purges: PurgeStore,
        search: SearchClient,
        eviction: Eviction,
        lookups: LookupLog,
    ) -> None:
        self._scopes = scopes
        self._store = store
        self._purges = purges
        self._search = search
        self._eviction = eviction
        self._lookups = lookups

    async def get(self, scope: Scope, entry_id: str) -> Entry:
        """Return an entry of a scope.

        Raises:
            NotFound: the scope has no such entry; another scope may have it.
        """
        record = await self._store.get(entry_id)
        entry = Entry.from_record(record) if record else None
        if entry is None or entry.scope != scope:
            raise NotFound(
                "ENTRY_NOT_FOUND",
                "This scope has no entry with this id. It may have expired or been evicted.",
                field="id",
                id=entry_id,
            )
        return entry

    async def delete(self, scope: Scope, entry_id: str) -> None:
        """Delete an entry of a scope. Raises NotFound as ``get`` does."""
        await self._delete(scope, [await self.get(scope, entry_id)])

    async def page(self, scope: Scope, size: int, token: str) -> tuple[list[Entry], str]:
        """Return a page of a scope's entries by id, and the next page's token."""
        partition = await self._scopes.partition(scope)
        tokens, listed = self._scopes.page_tokens, ("entries", partition)
        records, last = await self._store.page(partition, size, await tokens.read(listed, token))
        entries = [Entry.from_record(record) for record in records]
        return entries, await tokens.write(listed, last)

    async def purge(self, scope: Scope, request: PurgeRequest) -> tuple[int, list[Entry]]:
        """Count the entries that a request selects, and delete them if it has ``force``.

        Returns:
            The count and a sample of the entries.

        Raises:
            InvalidArgument: the purge would delete everything and ``everything`` is not set.
        """
        request.validate()
        owner, token, count = await self._scopes.owner(scope), "", 0
        if request.force:
            await self._store.begin_purge(owner)
        sample: list[Entry] = []
        while True:
            page, token = await self.page(scope, PURGE_PAGE, token)
            selected = [entry for entry in page if request.matches(entry)]
            count += len(selected)
            sample += selected[: SAMPLE_SIZE - len(sample)]
            if selected and request.force:
                await self._delete(scope, selected)
            if not token:
                break
        log.info(
            "purge of cache entries",
            extra={"partition": owner.partition, "entries": count, "force": request.force},
        )
        if request.force:
            if request.everything or request.prompt_contains:
                await self._lookups.forget_scope(
                    owner.tenant, scope.user, scope.namespace, request.prompt_contains
                )
            record = PurgeRecord(time.time(), current_key_name(), request.filter_record(), count)
            await self._purges.append(owner, asdict(record))
        return count, sample

    async def purge_records(
        self, scope: Scope, size: int, token: str
    ) -> tuple[list[PurgeRecord], str]:
        """Return a page of a scope's purges, newest first, and the next page's token."""
        partition = await self._scopes.partition(scope)
        tokens, listed = self._scopes.page_tokens, ("purges", partition)
        records, last = await self._purges.page(partition, size, await tokens.read(listed, token))
        purges = [from_record(PurgeRecord, record) for record in records]
        return purges, await tokens.write(listed, last)

    async def _delete(self, scope: Scope, entries: Sequence[Entry]) -> None:
        """Delete entries, first from the store: entries that it does not have are never served.

        The log of lookups forgets their prompts. If search fails, the eviction deletes their
        vectors later.
        """
        deleted = [entry.id for entry in entries]
        await self._store.delete(deleted)
        owner = await self._scopes.owner(scope)
        await self._lookups.forget_entries(owner.tenant, deleted)
        partition = owner.partition
        try:
            for digest in {entry.digest for entry in entries}:
                entry_ids = [entry.id for entry in entries if entry.digest == digest]
                await self._search.delete(collection_name(digest, partition), entry_ids)
                await self._store.forget_removed(entry_ids)
        except Failure as failure:
            log.warning(
                "search did not delete the vectors of entries; they will be deleted later",
                extra={"reason": failure.reason},
            )
            self._eviction.start()
