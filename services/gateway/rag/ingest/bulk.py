"""The other services, as the documents of one ingest ask them: together (see ``trips``)."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gateway.backends.backends import Backends
from services.gateway.backends.types import CollectionSpec, Document, TextModel, Value, field_types
from services.gateway.rag.ingest.batching import CoalescingBatcher, Known
from services.gateway.rag.ingest.types import DOCUMENT_FIELD, search_collection

Row = NDArray[np.float32]
CHUNKS_A_TRIP = 64
# Redis answers nobody else while it writes them, some milliseconds each in a large collection.
_WRITES_A_TRIP = 16
# Every chunk says of every field whether it has it, so documents cannot bring any number of them.
FIELDS_LIMIT = 64
_CHARACTERS_A_TRIP = 2**18
# A text costs as much as so many characters, so that a trip is not of thousands of headings.
_CHARACTERS_A_TEXT = 2**10


class Bulk:
    """What the documents of one ingest ask of embedder and search; closed at its end."""

    def __init__(self, backends: Backends) -> None:
        self._embedder, self._search = backends.embedder, backends.search
        self._model: Known[TextModel] = Known()
        self._fields: dict[str, Known[dict[str, str]]] = {}
        self._declaring = asyncio.Lock()
        self._writes: dict[tuple[str, str], CoalescingBatcher[Document, None]] = {}
        self._tokens: CoalescingBatcher[str, Sequence[int]] = CoalescingBatcher(
            self._embedder.token_starts,
            _CHARACTERS_A_TRIP,
            2,
            lambda text: len(text) + _CHARACTERS_A_TEXT,
        )
        self._rows: CoalescingBatcher[str, tuple[Row, str]] = CoalescingBatcher(
            self._embed, CHUNKS_A_TRIP, 8
        )

    def close(self) -> None:
        """End what is under way."""
        every: list[CoalescingBatcher[Any, Any]] = [
            self._tokens,
            self._rows,
            *self._writes.values(),
        ]
        for shared in every:
            shared.close()

    async def text_model(self) -> TextModel:
        """Return what there is to know of the model that embeds texts."""
        return await self._model.ask(self._embedder.text_model)

    async def token_starts(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """Return where the tokens of each text begin, in code points."""
        return await self._tokens.ask(texts)

    async def declared(
        self, collection: str, model: TextModel, fields: dict[str, Value]
    ) -> dict[str, str]:
        """Return the fields of a collection; it is made if need be, and gets what it lacks."""
        name, types = search_collection(collection), field_types(fields)
        known = self._fields.setdefault(collection, Known())
        make = partial(self._make, name, model, types)
        declared = await known.ask(make)
        if types.keys() <= declared.keys():
            return declared
        async with self._declaring:  # of many documents with a new field, one declares it
            declared = await known.ask(make)
            more = {one: type_ for one, type_ in types.items() if one not in declared}
            if more and len(declared) + len(more) <= FIELDS_LIMIT:
                await self._search.add_fields(name, more)
                known.forget()
                declared = await known.ask(make)
            return declared

    async def rows(self, texts: Sequence[str]) -> list[tuple[Row, str]]:
        """Embed chunks; return of each its row, float32 [dimensions], and its model's digest."""
        return await self._rows.ask(texts)

    async def write(self, collection: str, documents: Sequence[Document], digest: str) -> None:
        """Write chunks to the search collection of a collection."""
        name = search_collection(collection)

        async def upsert(together: list[Document]) -> list[None]:
            await self._search.upsert(name, together, digest)
            return [None] * len(together)

        writes = self._writes.setdefault(
            (name, digest), CoalescingBatcher(upsert, _WRITES_A_TRIP, 2)
        )
        for first in range(0, len(documents), _WRITES_A_TRIP):
            await writes.ask(documents[first : first + _WRITES_A_TRIP])

    async def _make(self, name: str, model: TextModel, types: dict[str, str]) -> dict[str, str]:
        declared = await self._search.field_types(name)
        if declared is None:
            types = types if len(types) < FIELDS_LIMIT else {}
            fields = types | {DOCUMENT_FIELD: "tag"}
            await self._search.ensure(
                CollectionSpec(name, model.dimensions, model.digest, fields, index_text=True)
            )
            declared = await self._search.field_types(name)
        return declared or {}

    async def _embed(self, texts: list[str]) -> list[tuple[Row, str]]:
        vectors = await self._embedder.embed_documents(texts, bulk=True)
        return [(row, vectors.digest) for row in vectors.rows]
