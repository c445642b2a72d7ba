"""Re-embeds the chunks of documents: copies a collection with new vectors, then swaps."""

from services import deadlines
from services.gateway.backends.collections import CollectionClient, CopiedDocument
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.search import SearchClient
from services.gateway.backends.types import TextModel
from services.gateway.rag.ingest.preparation import embedded_text
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.types import search_collection
from services.gateway.reembedding.types import BATCH_SIZE, check_model


class DocumentReembedder:
    """Gives the chunks of documents of other models a vector of the current one.

    The copy of a collection has its own name. When the copy is complete, the collection's name
    becomes an alias for it. Until then, questions to the collection are refused, because the
    vectors of two models cannot be compared.
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
        """Return how many chunks belong to models other than ``digest``."""
        found = [
            await self._collections.describe(search_collection(name))
            for name in await self._documents.collections()
        ]
        return sum(one.documents for one in found if one and one.model_digest != digest)

    async def run(self, model: TextModel) -> None:
        """Re-embed all collections of documents of other models.

        Raises:
            Unavailable: a service is unreachable, or the embedder has loaded another model.
        """
        for name in await self._documents.collections():
            await self._reembed(search_collection(name), copy_name(name, model.digest), model)

    async def _reembed(self, name: str, copy: str, model: TextModel) -> None:
        source = await self._collections.describe(name)
        if source and source.model_digest not in (model.digest, ""):
            await self._collections.create_like(name, copy, model.digest, model.dimensions)
            await self._copy(source.name, copy, model)
            await self._delete_extra(source.name, copy)
            await self._swap(name, copy)
        elif source is None and await self._collections.describe(copy):
            # A swap was interrupted between its two steps.
            await self._collections.assign_alias(name, copy)

    async def _copy(self, source: str, copy: str, model: TextModel) -> None:
        token, more = "", True
        while more:
            with deadlines.limit(deadlines.LONG_DEADLINE):
                documents, token = await self._collections.page(source, BATCH_SIZE, token)
                more = bool(token)
                missing = await self._missing(copy, documents)
                await self._write(copy, [one for one in documents if one.id in missing], model)

    async def _write(self, copy: str, documents: list[CopiedDocument], model: TextModel) -> None:
        if not documents:
            return
        texts = [embedded_text(one.text, one.payload) for one in documents]
        vectors = await self._embedder.embed_documents(texts, bulk=True)
        check_model(vectors, model)
        await self._collections.write(copy, documents, vectors.rows, model.digest)

    async def _delete_extra(self, source: str, copy: str) -> None:
        """Delete chunks from the copy whose documents were deleted since they were copied."""
        token, more = "", True
        while more:
            with deadlines.limit(deadlines.LONG_DEADLINE):
                documents, token = await self._collections.page(copy, BATCH_SIZE, token)
                more = bool(token)
                await self._search.delete(copy, sorted(await self._missing(source, documents)))

    async def _missing(self, name: str, documents: list[CopiedDocument]) -> set[str]:
        ids = [one.id for one in documents]
        return {*await self._search.missing(name, ids)} if ids else set()

    async def _swap(self, name: str, copy: str) -> None:
        # Another replica may have swapped, if this one has lost its lease.
        current = await self._collections.describe(name)
        if current is None or current.name == copy:
            return
        if current.name == name:  # an alias cannot have the name of a collection
            await self._collections.delete(name)
            await self._collections.assign_alias(name, copy)
        else:
            await self._collections.assign_alias(name, copy)
            await self._collections.delete(current.name)


def copy_name(collection: str, digest: str) -> str:
    """Return the search collection of a collection of documents for a later model."""
    return f"reembedded-{digest[:12]}-{collection}"
