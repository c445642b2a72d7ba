"""Indexes cache entries that were stored while the embedder or search was away."""

import asyncio
import logging

from services import deadlines
from services.errors import FailedPrecondition, Failure, InvalidArgument
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.cache.model_store import ModelStore
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.store import StoredEntry
from services.gateway.reembedding.cache_entries import embedding_text

log = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
BATCH_SIZE = 8


class Backfill:
    """Embeds entries without a vector in the background, and indexes them.

    All replicas do this. If two of them index an entry at the same time, the result is the same.
    """

    def __init__(self, store: ModelStore, cache: SemanticCache, embedder: EmbedderClient) -> None:
        self._store = store
        self._cache = cache
        self._embedder = embedder

    async def watch(self) -> None:
        """Index every ``CHECK_SECONDS`` until cancelled."""
        while True:
            try:
                await self.run()
            except Failure as failure:
                log.warning(
                    "entries could not be indexed; the next check tries again",
                    extra={"reason": failure.reason},
                )
            await asyncio.sleep(CHECK_SECONDS)

    async def run(self) -> None:
        """Index all entries without a vector.

        Raises:
            Failure: a service or Redis fails. The remaining entries stay listed.
        """
        while entries := await self._store.entries_without_vector(BATCH_SIZE):
            with deadlines.limit(deadlines.DEFAULT_DEADLINE):
                await asyncio.gather(*map(self._index, entries))

    async def _index(self, entry: StoredEntry) -> None:
        text = embedding_text(entry.record)
        try:
            if text:
                vectors = await self._embedder.embed_queries([text], bulk=True)
                await self._cache.replace_vector(entry, vectors)
                return
        except (InvalidArgument, FailedPrecondition):  # a retry would fail, too
            log.warning("an entry stays out of the semantic tier", exc_info=True)
        await self._store.leave_without_vector([entry.id])
