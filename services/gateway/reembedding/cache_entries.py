"""Re-embeds cache entries from their prompts."""

import asyncio
from collections.abc import Sequence

from services import deadlines
from services.gateway.backends.collections import CollectionClient
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import TextModel
from services.gateway.cache import index
from services.gateway.cache.model_store import ModelStore
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.store import StoredEntry
from services.gateway.cache.types import EMBEDDING_TEXT, VECTOR_FROM_CALLER, Context
from services.gateway.redis_store import Record
from services.gateway.reembedding.types import check_model

_NO_HISTORY = Context().parts["history"]


class EntryReembedder:
    """Gives cache entries of other models a vector of the current one."""

    def __init__(
        self,
        store: ModelStore,
        cache: SemanticCache,
        embedder: EmbedderClient,
        collections: CollectionClient,
    ) -> None:
        self._store = store
        self._cache = cache
        self._embedder = embedder
        self._collections = collections

    async def count(self, digest: str) -> int:
        """Return how many entries belong to models other than ``digest``."""
        models = await self._store.count_by_model()
        return models.total() - models[digest]

    async def run(self, model: TextModel) -> None:
        """Re-embed all entries of other models, then delete the collections of those models.

        Conversations that an earlier version stored without the embedded text stay only in the
        exact tier. Entries with a vector from a caller keep it, since only the caller knows the
        text that it belongs to. Their collections stay too, for lookups by vectors of that model.

        Raises:
            Unavailable: a service is unreachable, or the embedder has loaded another model.
        """
        retained = {model.digest, ""}
        async for batch in self._store.entries_of_other_models(model.digest):
            records = [entry.record for entry in batch]
            retained |= {one["digest"] for one in records if VECTOR_FROM_CALLER in one["detail"]}
            with deadlines.limit(deadlines.LONG_DEADLINE):
                await self._reembed(batch, model)
        with deadlines.limit(deadlines.LONG_DEADLINE):
            found = await self._collections.list_all()
        for one in found:
            digest = one.model_digest
            if digest not in retained and index.is_named(one.name, digest):
                with deadlines.limit(deadlines.LONG_DEADLINE):
                    await self._collections.delete(one.name)

    async def _reembed(self, batch: Sequence[StoredEntry], model: TextModel) -> None:
        texts = [(entry, embedding_text(entry.record)) for entry in batch]
        texts = [(entry, text) for entry, text in texts if text]
        if not texts:
            return
        vectors = await self._embedder.embed_queries([text for _, text in texts], bulk=True)
        check_model(vectors, model)
        await asyncio.gather(
            *(
                self._cache.replace_vector(entry, vectors.only(row))
                for row, (entry, _) in enumerate(texts)
            )
        )


def embedding_text(record: Record) -> str:
    """Return the text that an entry's vector is computed from; empty if it is not known."""
    detail = record["detail"]
    if VECTOR_FROM_CALLER in detail:
        return ""
    stored = str(detail.get(EMBEDDING_TEXT, ""))
    if stored or record["parts"].get("history", _NO_HISTORY) != _NO_HISTORY:
        return stored
    return str(record["prompt"])
