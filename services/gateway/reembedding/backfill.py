"""Indexes cache entries that were stored while the embedder or search was away."""

import asyncio
import logging

from services import deadlines
from services.errors import FailedPrecondition, Failure, InvalidArgument
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.store import StoredEntry
from services.gateway.reembedding.cache_entries import embedding_text
from services.gateway.reembedding.unindexed_store import UnindexedStore

log = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
BATCH_SIZE = 32


class Backfill:
    """Embeds the entries of ``store`` in the background, and indexes them.

    All replicas do this. If two of them index an entry at the same time, the result is the same.
    """

    def __init__(
        self, store: UnindexedStore, cache: SemanticCache, embedder: EmbedderClient
    ) -> None:
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
        while entries := await self._store.some(BATCH_SIZE):
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
        await self._store.forget([entry.id])
