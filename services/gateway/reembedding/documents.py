"""Re-embeds the chunks of documents: copies a collection with new vectors, then swaps."""

import logging

from services import deadlines
from services.gateway.backends.collections import CollectionClient, CollectionInfo, CopiedDocument
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.search import SearchClient
from services.gateway.backends.types import TextModel
from services.gateway.rag.ingest.preparation import embedded_text
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.reembedding.collection_states import CollectionState, collection_states
from services.gateway.reembedding.types import BATCH_SIZE, check_model

log = logging.getLogger(__name__)

# A collection whose documents keep changing is copied this often before its copy replaces it.
# Changes that are still in progress then start again.
MAX_PASSES = 5


class DocumentReembedder:
    """Gives the chunks of documents of other models a vector of the current one.

    The copy of a collection has its own name. When the copy is complete, the collection's name
    becomes an alias for it. Until then, questions to the collection are refused, because the
    vectors of two models cannot be compared. The store's lists of chunks decide which chunks a copy
    may have, because documents change meanwhile.
    """

    def __init__(
        self,
        documents: DocumentStore,
        embedder: EmbedderClient,
        search: SearchClient,
        collections: CollectionClient,
    ) -> None:
        self._documents = documents
        self._embedder = embedder
        self._search = search
        self._collections = collections

    async def count(self, digest: str) -> int:
        """Return how many chunks belong to models other than ``digest``, or to abandoned copies."""
        return sum(state.pending(digest) for state in (await self._states()).values())

    async def run(self, model: TextModel) -> None:
        """Re-embed all collections of documents of other models.

        Raises:
            Unavailable: a service is unreachable, or the embedder has loaded another model.
        """
        for collection, state in (await self._states()).items():
            await self._reembed(collection, state, model)

    async def _states(self) -> dict[DocumentCollection, CollectionState]:
        with deadlines.limit(deadlines.LONG_DEADLINE):
            return collection_states(
                await self._collections.list_all(), await self._documents.collections()
            )

    async def _reembed(
        self, collection: DocumentCollection, state: CollectionState, model: TextModel
    ) -> None:
        alias, copy = collection.search_name, collection.copy_name(model.digest)
        source = state.source
        if source is None:  # a swap was interrupted between its two steps
            source = state.most_complete(model.digest)
            with deadlines.limit(deadlines.DEFAULT_DEADLINE):
                await self._search.assign_alias(alias, source.name)
        if source.model_digest != model.digest:
            await self._documents.set_copy(collection, copy)
            await self._write_copy(collection, source, model)
            await self._swap(alias, copy)
            target = copy
        else:
            target = source.name
        others = [one for one in state.copies if one.name not in (source.name, target)]
        for other in others:
            log.warning("an abandoned copy is added to its collection: %s", other.name)
            await self._add(collection, other.name, alias, model)
        if others or target == copy:
            # Changes that began before have changed the source. They start again on the copy.
            await self._documents.revoke_leases(collection)
            await self._delete_unlisted(collection, alias)
        for other in others:
            with deadlines.limit(deadlines.LONG_DEADLINE):
                await self._collections.delete(other.name)
        await self._documents.set_copy(collection, "")

    async def _write_copy(
        self, collection: DocumentCollection, source: CollectionInfo, model: TextModel
    ) -> None:
        copy = collection.copy_name(model.digest)
        with deadlines.limit(deadlines.LONG_DEADLINE):
            await self._collections.create_like(source.name, copy, model.digest, model.dimensions)
        for _ in range(MAX_PASSES):
            epochs = await self._documents.epochs([collection])
            await self._copy(collection, source.name, copy, model)
            await self._delete_unlisted(collection, copy)
            if (
                await self._documents.epochs([collection]) == epochs
            ):  # no document has changed meanwhile
                return

    async def _add(
        self, collection: DocumentCollection, other: str, target: str, model: TextModel
    ) -> None:
        """Add the chunks of an abandoned copy that documents have and the target lacks."""
        token, more = "", True
        while more:
            with deadlines.limit(deadlines.LONG_DEADLINE):
                documents, token = await self._collections.page(other, BATCH_SIZE, token)
                more = bool(token)
                ids = [one.id for one in documents]
                missing = {*await self._search.missing(target, ids)} if ids else set()
                missing -= await self._documents.unlisted(collection, sorted(missing))
                await self._write(target, [one for one in documents if one.id in missing], model)

    async def _copy(
        self, collection: DocumentCollection, source: str, target: str, model: TextModel
    ) -> None:
        """Copy the chunks of documents that the target lacks or has with other content."""
        token, more = "", True
        while more:
            with deadlines.limit(deadlines.LONG_DEADLINE):
                documents, token = await self._collections.page(source, BATCH_SIZE, token)
                more = bool(token)
                outdated = await self._collections.outdated(target, documents)
                outdated -= await self._documents.unlisted(collection, sorted(outdated))
                await self._write(target, [one for one in documents if one.id in outdated], model)

    async def _write(self, target: str, documents: list[CopiedDocument], model: TextModel) -> None:
        if not documents:
            return
        texts = [embedded_text(one.text, one.payload) for one in documents]
        vectors = await self._embedder.embed_documents(texts, bulk=True)
        check_model(vectors, model)
        await self._collections.write(target, documents, vectors.rows, model.digest)

    async def _delete_unlisted(self, collection: DocumentCollection, target: str) -> None:
        """Delete the chunks of documents that were deleted or changed since they were copied."""
        token, more = "", True
        while more:
            with deadlines.limit(deadlines.LONG_DEADLINE):
                documents, token = await self._collections.page(target, BATCH_SIZE, token)
                more = bool(token)
                unlisted = await self._documents.unlisted(collection, [one.id for one in documents])
                await self._search.delete(target, sorted(unlisted))

    async def _swap(self, alias: str, copy: str) -> None:
        with deadlines.limit(deadlines.LONG_DEADLINE):
            # Another replica may have swapped, if this one has lost its lease.
            current = await self._collections.describe(alias)
            if current and current.name == copy:
                return
            if current and current.name == alias:  # an alias cannot have a collection's name
                await self._collections.delete(alias)
            await self._search.assign_alias(alias, copy)
            if current and current.name != alias:
                await self._collections.delete(current.name)
