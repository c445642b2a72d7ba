"""Fakes of the embedder and search: each word is a dimension, and collections are in memory."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from services.errors import AlreadyExists, FailedPrecondition, Failure, NotFound
from services.gateway.backends.backends import Backends
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.search import SearchClient
from services.gateway.backends.types import (
    CollectionSpec,
    Document,
    Hit,
    Query,
    TextModel,
    TextReading,
    Vectors,
)

DIMENSIONS = 256
_WORD = re.compile(r"\w+|[^\w\s]")


class FakeEmbedder(EmbedderClient):
    """Embeds a text as the normalised counts of its words, and counts the requests."""

    def __init__(self, digest: str = "digest", max_tokens: int = 64) -> None:
        self.model = TextModel(digest, DIMENSIONS, max_tokens)
        self.embedded: list[str] = []
        self.cached_images: list[str] = []
        self.failures: list[Failure] = []  # raised by the next calls
        self.image_model_reads_texts = False
        self.readings: dict[str, TextReading] = {}  # of texts that are not read whole

    async def embed_queries(self, texts: Sequence[str], *, bulk: bool = False) -> Vectors:
        return self._vectors(texts)

    async def embed_documents(self, texts: Sequence[str], *, bulk: bool = False) -> Vectors:
        if self.failures:
            raise self.failures.pop(0)
        self.embedded += texts
        return self._vectors(texts)

    async def embed_image(self, image: bytes, *, no_store: bool = False) -> Vectors:
        if self.failures:
            raise self.failures.pop(0)
        if not no_store:
            self.cached_images.append(image.decode())
        self.embedded.append(image.decode())
        rows = 3 * self._vectors([image.decode()]).rows
        return Vectors(rows, "image-model", await self.image_model_digest())

    async def embed_images(self, images: Sequence[bytes]) -> Vectors:
        rows = 3 * self._vectors([image.decode() for image in images]).rows
        return Vectors(rows, "image-model", await self.image_model_digest())

    async def embed_text_as_image(self, text: str) -> Vectors | None:
        if not self.image_model_reads_texts:
            return None
        vectors = await self.embed_image(text.encode())
        return replace(vectors, readings=(self.readings.get(text, TextReading()),))

    async def image_model_digest(self) -> str:
        return f"image-{self.model.digest}"

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float64]:
        """Score a text by its length."""
        return np.array([float(len(text)) for text in texts])

    async def token_starts(self, texts: Sequence[str]) -> list[Sequence[int]]:
        return [[match.start() for match in _WORD.finditer(text)] for text in texts]

    async def text_model(self) -> TextModel:
        return self.model

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        rows = np.zeros((len(texts), DIMENSIONS), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in _WORD.findall(text.lower()):
                row[zlib.crc32(word.encode()) % DIMENSIONS] += 1
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        readings = tuple(self.readings.get(text, TextReading()) for text in texts)
        return Vectors(rows, "model", self.model.digest, readings)


@dataclass
class FakeCollection:
    """A collection of ``FakeSearch``."""

    spec: CollectionSpec
    documents: dict[str, Document] = field(default_factory=dict)


class FakeSearch(SearchClient):
    """Searches exactly, by cosine. A hybrid query scores like a vector query."""

    def __init__(self) -> None:
        self.collections: dict[str, FakeCollection] = {}
        self.aliases: dict[str, str] = {}
        self.upserts: list[list[str]] = []
        self.failures: list[Failure] = []  # raised by the next searches

    async def ensure(self, spec: CollectionSpec) -> None:
        self.collections.setdefault(spec.name, FakeCollection(spec))

    async def field_types(self, collection: str) -> dict[str, str] | None:
        found = self._find(collection)
        return dict(found.spec.fields) if found else None

    async def model_digest(self, collection: str) -> str:
        found = self._find(collection)
        return found.spec.model_digest if found else ""

    async def model(self, collection: str) -> tuple[str, int] | None:
        found = self._find(collection)
        return (found.spec.model_digest, found.spec.dimensions) if found else None

    async def assign_alias(self, alias: str, collection: str) -> None:
        if alias in self.collections:
            raise AlreadyExists("COLLECTION_EXISTS", "A collection has this name.")
        self._collection(collection)
        self.aliases[alias] = collection

    async def add_fields(self, collection: str, fields: dict[str, str]) -> None:
        declared = self._collection(collection).spec.fields
        if declared.keys() & fields.keys():
            raise AlreadyExists("FIELD_EXISTS", "The field exists.")
        declared.update(fields)

    async def upsert(self, collection: str, documents: Sequence[Document], digest: str) -> None:
        found = self._collection(collection)
        if found.spec.model_digest != digest:
            raise FailedPrecondition("MODEL_MISMATCH", "The collection has another model.")
        self.upserts.append([one.id for one in documents])
        found.documents |= {one.id: one for one in documents}

    async def delete(self, collection: str, ids: Sequence[str]) -> None:
        for key in ids:
            self.documents(collection).pop(key, None)

    async def vectors(self, collection: str, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        documents = self.documents(collection)
        return {key: documents[key].vector for key in ids if key in documents}

    async def missing(self, collection: str, ids: Sequence[str]) -> list[str]:
        documents = self.documents(collection)
        return [key for key in ids if key not in documents]

    async def search(self, queries: Sequence[Query], digest: str) -> list[list[Hit]]:
        if self.failures:
            raise self.failures.pop(0)
        return [self._search(query) for query in queries]

    def documents(self, collection: str) -> dict[str, Document]:
        """The documents of a collection by their ids; none if it does not exist."""
        found = self._find(collection)
        return found.documents if found else {}

    def _search(self, query: Query) -> list[Hit]:
        hits = [
            _hit(query, document)
            for document in self._collection(query.collection).documents.values()
            if all(
                document.fields.get(name) in ([value] if isinstance(value, str) else value)
                for name, value in query.tags.items()
            )
        ]
        return sorted(hits, key=lambda hit: -hit.similarity)[: query.limit]

    def _collection(self, name: str) -> FakeCollection:
        found = self._find(name)
        if found is None:
            raise NotFound("COLLECTION_NOT_FOUND", "There is no such collection.")
        return found

    def _find(self, name: str) -> FakeCollection | None:
        return self.collections.get(self.aliases.get(name, name))


def _hit(query: Query, document: Document) -> Hit:
    norms = float(np.linalg.norm(query.vector) * np.linalg.norm(document.vector))
    similarity = float(query.vector @ document.vector) / max(norms, 1e-9)
    return Hit(
        document.id,
        similarity,
        1 - similarity,
        dict(document.fields),
        document.text,
        document.payload,
        score=similarity,
        vector=document.vector if query.with_vector else None,
    )


def fake_backends() -> tuple[Backends, FakeEmbedder, FakeSearch]:
    """Both fakes, together and with their own types."""
    embedder, search = FakeEmbedder(), FakeSearch()
    return Backends(embedder, search), embedder, search
