"""Loads the curated entries of a scope in bulk."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from services.errors import Failure, InvalidArgument, Overloaded, Unavailable
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import Vectors
from services.gateway.cache.curated import METADATA, curated_context
from services.gateway.cache.eviction import Eviction, MemoryLimits
from services.gateway.cache.owners import Owner
from services.gateway.cache.scopes import Scopes, entry_id
from services.gateway.cache.semantic_tier import UPSERT_BATCH, SemanticTier
from services.gateway.cache.store import CacheStore
from services.gateway.cache.types import Entry, NewEntry, Request, Scope
from services.gateway.cache.unread import reading_detail
from services.gateway.cache.vectors import pack
from services.gateway.redis_store import Record
from services.gateway.retries import retry

BATCH_SIZE = 64
MAX_METADATA_BYTES = 16_384
# Curated entries may take this share of the cache's memory, and of a tenant's. They are never
# evicted, and other entries need the rest.
MEMORY_SHARE = 0.5


@dataclass(frozen=True)
class CuratedEntry:
    """A question and the answer of its owner.

    Attributes:
        prompt: the question.
        response: the answer.
        model: the language model for whose requests it answers; empty for all.
        ttl: time to live in seconds; 0 means no limit.
        cites: the sources of the response.
        metadata: further data of the owner.
    """

    prompt: str
    response: str
    model: str = ""
    ttl: float = 0.0
    cites: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadReceipt:
    """The outcome for one entry.

    Attributes:
        status: ``created``, ``replaced``, ``unchanged`` or ``refused``.
        id: the id of the stored entry.
        failure: why the entry was refused.
    """

    status: str
    id: str = ""
    failure: Failure | None = None


class EntryLoader:
    """Loads curated entries; ``limits`` are those of all entries."""

    def __init__(  # noqa: PLR0913 - wired once
        self,
        scopes: Scopes,
        store: CacheStore,
        semantic_tier: SemanticTier,
        embedder: EmbedderClient,
        eviction: Eviction,
        *,
        limits: MemoryLimits,
    ) -> None:
        self._scopes = scopes
        self._store = store
        self._semantic_tier = semantic_tier
        self._embedder = embedder
        self._eviction = eviction
        self._limits = limits.share(MEMORY_SHARE)

    async def load(
        self, scope: Scope, entries: Sequence[CuratedEntry]
    ) -> AsyncIterator[list[LoadReceipt]]:
        """Store entries in order, and yield the receipts of each batch in this order.

        An entry replaces an earlier one of the same model and prompt. A bad entry does not affect
        the others.

        Raises:
            Unavailable: a service is unreachable. The load can be repeated.
            Overloaded: a service is overloaded. The load can be repeated.
        """
        owner = await self._scopes.owner(scope)
        for batch in _batches(entries):
            receipts: dict[int, LoadReceipt] = {}
            valid: dict[int, Entry] = {}
            for place, one in enumerate(batch):
                try:
                    valid[place] = _entry(owner.partition, scope, one)
                except InvalidArgument as failure:
                    receipts[place] = LoadReceipt("refused", failure=failure)
            stored = await self._store_batch(owner, list(valid.values()))
            receipts |= dict(zip(valid, stored, strict=True))
            yield [receipts[place] for place in range(len(batch))]

    async def _store_batch(self, owner: Owner, entries: Sequence[Entry]) -> list[LoadReceipt]:
        """Store valid entries with distinct ids, and return their receipts."""
        records = await self._store.get_many([entry.id for entry in entries])
        existing = {record["id"]: record for record in records}
        digest = (await self._embedder.text_model()).digest if existing else ""
        is_full = self._limits.exceeded(await self._store.curated_bytes(owner))
        receipts: dict[str, LoadReceipt] = {}
        changed: list[Entry] = []
        for entry in entries:
            before = existing.get(entry.id)
            if before and _is_same(entry, before, digest):
                receipts[entry.id] = LoadReceipt("unchanged", entry.id)
            elif is_full and not before:
                receipts[entry.id] = LoadReceipt("refused", failure=_full())
            else:
                receipts[entry.id] = LoadReceipt("replaced" if before else "created", entry.id)
                changed.append(entry)
        for refused, failure in await self._write(owner, changed):
            receipts[refused.id] = LoadReceipt("refused", failure=failure)
        return [receipts[entry.id] for entry in entries]

    async def _write(
        self, owner: Owner, entries: Sequence[Entry]
    ) -> list[tuple[Entry, InvalidArgument]]:
        """Embed and store entries; return those that the embedder refuses.

        The prompts are indexed first, so an entry that is stored is found.
        """
        if not entries:
            return []
        try:
            vectors = await retry(lambda: self._embed(entries), Overloaded, Unavailable)
        except InvalidArgument as failure:
            if len(entries) == 1:
                return [(entries[0], failure)]
            refused = [await self._write(owner, [entry]) for entry in entries]
            return [pair for pairs in refused for pair in pairs]
        rows = [vectors.only(row) for row in range(len(entries))]
        embedded = list(map(_embedded, entries, rows))
        readable = [row for row, one in enumerate(rows) if one.readable]
        await retry(
            lambda: self._semantic_tier.add_batch(
                [embedded[row] for row in readable],
                replace(vectors, rows=vectors.rows[readable]),
                owner.partition,
            ),
            Overloaded,
            Unavailable,
        )
        for first in range(0, len(embedded), UPSERT_BATCH):
            batch = embedded[first : first + UPSERT_BATCH]
            taken = await asyncio.gather(
                *(self._store.put(owner, asdict(entry), entry.ttl) for entry in batch)
            )
            self._eviction.record(max(taken))
        return []

    async def _embed(self, entries: Sequence[Entry]) -> Vectors:
        return await self._embedder.embed_queries([entry.prompt for entry in entries], bulk=True)


def _batches(entries: Sequence[CuratedEntry]) -> Iterator[list[CuratedEntry]]:
    """Yield the entries in batches in which each model and prompt occurs once."""
    batch: dict[tuple[str, str], CuratedEntry] = {}
    for entry in entries:
        key = entry.model, entry.prompt
        if key in batch or len(batch) == BATCH_SIZE:
            yield list(batch.values())
            batch = {}
        batch[key] = entry
    if batch:
        yield list(batch.values())


def _entry(partition: str, scope: Scope, new: CuratedEntry) -> Entry:
    """Return an entry without its vector. Raises InvalidArgument for a bad one."""
    request = Request(scope, curated_context(new.model), new.prompt)
    request.validate()
    NewEntry(new.response, new.ttl).validate()
    if sum(len(text.encode()) for pair in new.metadata.items() for text in pair) > (
        MAX_METADATA_BYTES
    ):
        raise InvalidArgument(
            "METADATA_TOO_LONG",
            f"The metadata is longer than {MAX_METADATA_BYTES} bytes. Send less metadata.",
            field="metadata",
            limit=MAX_METADATA_BYTES,
        )
    return Entry(
        id=entry_id(partition, request),
        prompt=new.prompt,
        response=new.response,
        scope=scope,
        fingerprint=request.context.fingerprint,
        parts=request.context.parts,
        created_at=time.time(),
        ttl=new.ttl,
        cites=list(new.cites),
        detail={METADATA: dict(new.metadata)},
    )


def _embedded(entry: Entry, vectors: Vectors) -> Entry:
    return replace(
        entry,
        vector=pack(vectors.rows[0]),
        digest=vectors.digest,
        detail=entry.detail | reading_detail(entry.prompt, entry.prompt, vectors),
    )


def _is_same(entry: Entry, record: Record, digest: str) -> bool:
    """Return whether the record holds the entry, with a vector of the model ``digest``.

    An entry with a time to live is written again, because that renews its time.
    """
    before = Entry.from_record(record)
    parts = ("response", "ttl", "cites")
    return (
        not entry.ttl
        and before.digest == digest
        and before.detail[METADATA] == entry.detail[METADATA]
        and all(getattr(before, name) == getattr(entry, name) for name in parts)
    )


def _full() -> Overloaded:
    return Overloaded(
        "CURATED_ENTRIES_FULL",
        "The curated entries take half of the memory of the cache or of the tenant. Purge curated"
        " entries, or increase MEMETWIN_CACHE_MEMORY or MEMETWIN_CACHE_TENANT_MEMORY.",
    )
