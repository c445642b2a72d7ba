"""Batches the calls to the embedder and to search that the documents of one ingest make."""

import asyncio
import contextlib
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.errors import AlreadyExists, NotFound
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import CollectionSpec, Document, TextModel, Value, field_types
from services.gateway.coalescing.batcher import CoalescingBatcher
from services.gateway.rag.ingest.ttl_value import TtlValue
from services.gateway.rag.ingest.types import DOCUMENT_FIELD, DocumentCollection

Row = NDArray[np.float32]


class EmbeddedText(NamedTuple):
    """A text's vector, float32 [dimensions], its model's digest, and whether the model reads it."""

    row: Row
    digest: str
    readable: bool


# People read and cite chunks, so chunks are not as long as some models can read.
MAX_CHUNK_TOKENS = 512
MIN_CHUNK_TOKENS = 32
EMBED_BATCH = 64
# Redis takes some milliseconds for each document that it adds to a large collection, and serves no
# other client during a batch.
_UPSERT_BATCH = 16
# Every chunk records which fields of its collection it has, so the number of fields is limited.
MAX_FIELDS = 64
_TOKENIZE_CHARACTERS = 2**17
# Each text counts as this many extra characters, so that no batch has thousands of headings.
_TEXT_OVERHEAD_CHARACTERS = 2**10


class BatchedBackends:
    """Batches the calls of one ingest's documents. Close it at the end of the ingest.

    Args:
        backends: the embedder and search.
        caller: takes turns with the other callers at what all ingests share.
        max_chunk_tokens: maximum number of tokens in a chunk.
    """

    def __init__(
        self, backends: Backends, caller: Hashable, max_chunk_tokens: int = MAX_CHUNK_TOKENS
    ) -> None:
        self.caller = caller
        self._embedder, self._search = backends.embedder, backends.search
        self._max_chunk_tokens = max_chunk_tokens
        self._model: TtlValue[TextModel] = TtlValue()
        self._field_types: dict[DocumentCollection, TtlValue[dict[str, str]]] = {}
        self._adding_fields = asyncio.Lock()
        self._upserts: dict[tuple[str, str], CoalescingBatcher[Document, None]] = {}
        self._tokens: CoalescingBatcher[str, Sequence[int]] = CoalescingBatcher(
            self._embedder.token_starts,
            max_weight=_TOKENIZE_CHARACTERS,
            max_concurrent=2,
            weigh=lambda text: len(text) + _TEXT_OVERHEAD_CHARACTERS,
        )
        self._rows: CoalescingBatcher[str, EmbeddedText] = CoalescingBatcher(
            self._embed, max_weight=EMBED_BATCH, max_concurrent=8
        )

    def close(self) -> None:
        """Cancel the calls in progress."""
        batchers: list[CoalescingBatcher[Any, Any]] = [
            self._tokens,
            self._rows,
            *self._upserts.values(),
        ]
        for batcher in batchers:
            batcher.close()

    async def text_model(self) -> TextModel:
        """Return the model that embeds texts."""
        return await self._model.get(self._embedder.text_model)

    async def chunk_tokens(self) -> int:
        """Return how many tokens the model reads of a chunk, up to the maximum."""
        limit = min((await self.text_model()).max_tokens, self._max_chunk_tokens)
        return max(limit, MIN_CHUNK_TOKENS)

    async def token_starts(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Return the offset in code points at which each token of each text begins."""
        return await self._tokens.submit(texts)

    async def ensure_fields(
        self, collection: DocumentCollection, model: TextModel, fields: dict[str, Value]
    ) -> dict[str, str]:
        """Create a collection if it does not exist, and declare the fields that it lacks.

        Returns:
            The types of all declared fields by name. It adds no field beyond ``MAX_FIELDS``, and
            none whose declared type differs.
        """
        name, types = collection.search_name, field_types(fields)
        cached = self._field_types.setdefault(collection, TtlValue())
        load = partial(self._ensure_collection, collection, model, types)
        declared = await cached.get(load)
        if types.keys() <= declared.keys():
            return declared
        async with self._adding_fields:  # only one of many documents adds a new field
            declared = await cached.get(load)
            new = {field: kind for field, kind in types.items() if field not in declared}
            if new and len(declared) + len(new) <= MAX_FIELDS:
                await self._search.add_fields(name, new)
                cached.invalidate()
                declared = await cached.get(load)
            return declared

    async def embed(self, texts: Sequence[str]) -> list[EmbeddedText]:
        """Embed texts, in order."""
        return await self._rows.submit(texts)

    async def upsert(
        self, collection: DocumentCollection, documents: Sequence[Document], digest: str
    ) -> None:
        """Write chunks to search whose vectors come from the model ``digest``."""
        name = collection.search_name

        async def upsert_batch(batch: list[Document]) -> list[None]:
            try:
                await self._search.upsert(name, batch, digest)
            except NotFound:
                await self._adopt_copy(collection, digest)
                await self._search.upsert(name, batch, digest)
            return [None] * len(batch)

        upserts = self._upserts.setdefault(
            (name, digest),
            CoalescingBatcher(upsert_batch, max_weight=_UPSERT_BATCH, max_concurrent=2),
        )
        for first in range(0, len(documents), _UPSERT_BATCH):
            await upserts.submit(documents[first : first + _UPSERT_BATCH])

    async def _ensure_collection(
        self, collection: DocumentCollection, model: TextModel, types: dict[str, str]
    ) -> dict[str, str]:
        name = collection.search_name
        declared = await self._search.field_types(name)
        if declared is None:
            await self._adopt_copy(collection, model.digest)
            declared = await self._search.field_types(name)
        if declared is None:
            fields = (types if len(types) < MAX_FIELDS else {}) | {DOCUMENT_FIELD: "tag"}
            await self._search.ensure(
                CollectionSpec(name, model.dimensions, model.digest, fields, index_text=True)
            )
            declared = await self._search.field_types(name)
        return declared or {}

    async def _adopt_copy(self, collection: DocumentCollection, digest: str) -> None:
        """Give the name of a collection that does not exist to its copy for this model, if any.

        A re-embedding deletes a collection when its copy is complete, and renames the copy next. A
        new collection with that name would hide the copy.
        """
        with contextlib.suppress(AlreadyExists, NotFound):  # it exists again, or has no copy
            await self._search.assign_alias(collection.search_name, collection.copy_name(digest))

    async def _embed(self, texts: list[str]) -> list[EmbeddedText]:
        vectors = await self._embedder.embed_documents(texts, bulk=True)
        return [
            EmbeddedText(row, vectors.digest, vectors.only(number).readable)
            for number, row in enumerate(vectors.rows)
        ]
