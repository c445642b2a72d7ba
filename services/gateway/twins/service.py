"""Stores pictures and finds those that are most similar to a query.

Search holds the vectors, and the store holds the pictures. Each metric has a collection with the
unnormalised output of the image model, so that the metrics may rank differently. A collection
belongs to one model: twins that another model embedded are not found until they are added again.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from services.errors import InvalidArgument, NotFound
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import METRICS, CollectionSpec, Document, Hit, Query, Vectors
from services.gateway.redis_store import from_record
from services.gateway.twins.store import TwinStore
from services.gateway.twins.types import Picture, Twin, TwinResults

DEFAULT_LIMIT = 5
MAX_LIMIT = 100
MAX_TEXT_CHARACTERS = 10_000
_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)


class TwinService:
    """Adds, finds, lists and deletes twins."""

    def __init__(self, store: TwinStore, backends: Backends) -> None:
        self._store = store
        self._embedder = backends.embedder
        self._search = backends.search

    async def find(self, image: bytes, metric: str, limit: int) -> TwinResults:
        """Find the twins of a picture file, which is not stored."""
        _check_limit(limit)
        if not image:
            raise InvalidArgument(
                "EMPTY_PICTURE", "The picture is empty. Send an image file.", field="image"
            )
        started = time.perf_counter()
        # A visitor's picture leaves nothing behind, not even a vector in the embedder's cache.
        vectors = await self._embedder.embed_image(image, no_store=True)
        return await self._nearest(_collection(vectors.digest, metric), vectors, limit, started)

    async def find_by_text(self, text: str, metric: str, limit: int) -> TwinResults:
        """Find twins by a text: by picture if the image model reads it, otherwise by title.

        Titles have unit vectors, so every metric ranks them the same way. Their similarity is the
        cosine.
        """
        _check_limit(limit)
        if not text.strip():
            raise InvalidArgument("EMPTY_TEXT", "The text is empty.", field="text")
        if len(text) > MAX_TEXT_CHARACTERS:
            raise InvalidArgument(
                "DESCRIPTION_TOO_LONG",
                f"The text has {len(text)} characters. Send at most {MAX_TEXT_CHARACTERS}.",
                field="text",
                limit=MAX_TEXT_CHARACTERS,
            )
        started = time.perf_counter()
        vectors = await self._embedder.embed_text_as_image(text)
        if vectors is not None and vectors.readable:
            collection = _collection(vectors.digest, metric)
        else:
            vectors = await self._embedder.embed_queries([text])
            collection = _title_collection(vectors.digest)
        if not vectors.readable:
            raise InvalidArgument(
                "UNREADABLE_TEXT",
                f"The model {vectors.model} cannot read enough of the text. Write it in a language"
                " that GetModel reports as readable, or configure another text model.",
                field="text",
                model=vectors.model,
            )
        return await self._nearest(collection, vectors, limit, started)

    async def add(self, picture: Picture) -> tuple[Twin, bool]:
        """Add a picture; return its twin, and whether that is new.

        A picture that is already there, unchanged and embedded by the current models, is not
        embedded again.
        """
        picture = picture.validated()
        digest = await asyncio.to_thread(_digest, picture.image)
        record = await self._store.get(picture.id)
        earlier = from_record(Twin, record) if record else None
        twin = Twin(
            id=picture.id,
            title=picture.title,
            tags=picture.tags,
            media_type=_media_type(picture.image),
            digest=digest,
            model_digest=await self._embedder.image_model_digest(),
        )
        if earlier == twin and await self._is_indexed(twin):
            return twin, False
        vectors = await self._embedder.embed_image(picture.image)
        titles = await self._embedder.embed_documents([". ".join([twin.title, *twin.tags])])
        twin = replace(twin, model_digest=vectors.digest)
        before = await self._collections(earlier) if earlier else set()
        current = _collections(vectors.digest, titles.digest)
        # The store comes first, so that a later call finds every vector of a call that was cut off.
        await self._store.put(twin.id, asdict(twin), picture.image, current)
        await self._index(twin, vectors, titles)
        if stale := before.difference(current):
            await self._delete_vectors(twin.id, stale)
            await self._store.remove_collections(twin.id, stale)
        return twin, earlier is None

    async def page(self, size: int, token: str) -> tuple[list[Twin], str]:
        """Return a page of twins in the order of their ids, and the next page's token."""
        records, next_token = await self._store.page(size, token)
        return [from_record(Twin, record) for record in records], next_token

    async def picture(self, key: str) -> tuple[bytes, str]:
        """Return the picture file of a twin and its media type. Raises NotFound."""
        image = await self._store.picture(key)
        if image is None:
            raise _not_found(key)
        return image, _media_type(image)

    async def delete(self, key: str) -> None:
        """Delete a twin. Raises NotFound.

        The store comes last, so that a call that was cut off can be repeated.
        """
        record = await self._store.get(key)
        if record is None:
            raise _not_found(key)
        await self._delete_vectors(key, await self._collections(from_record(Twin, record)))
        await self._store.delete(key)

    async def _nearest(
        self, collection: str, vectors: Vectors, limit: int, started: float
    ) -> TwinResults:
        """Return the twins nearest to ``vectors``, whose embedding began at ``started``."""
        embedded = time.perf_counter()
        query = Query(collection, vectors.rows[0], limit or DEFAULT_LIMIT)
        try:
            [hits] = await self._search.search([query], vectors.digest)
        except NotFound:
            hits = []  # no twin has been added with this model yet
        twins = await self._twins(hits)
        seconds = time.perf_counter() - embedded
        return TwinResults(twins, vectors.model, vectors.digest, embedded - started, seconds)

    async def _twins(self, hits: Sequence[Hit]) -> list[Twin]:
        records = await self._store.get_many([hit.id for hit in hits])
        return [
            replace(from_record(Twin, record), similarity=hit.similarity, distance=hit.distance)
            for hit, record in zip(hits, records, strict=True)
            if record
        ]

    async def _collections(self, twin: Twin) -> set[str]:
        """Return the search collections that may hold a twin's vectors."""
        recorded = await self._store.collections(twin.id)
        if recorded:
            return recorded
        titles = await self._embedder.text_model()
        return set(_collections(twin.model_digest, titles.digest))

    async def _is_indexed(self, twin: Twin) -> bool:
        """Return whether search holds a twin's vectors of the current models."""
        titles = await self._embedder.text_model()
        missing = await asyncio.gather(
            *(
                self._search.missing(name, [twin.id])
                for name in _collections(twin.model_digest, titles.digest)
            )
        )
        return not any(missing)

    async def _delete_vectors(self, key: str, collections: Iterable[str]) -> None:
        await asyncio.gather(*(self._search.delete(name, [key]) for name in collections))

    async def _index(self, twin: Twin, vectors: Vectors, titles: Vectors) -> None:
        """Write a twin's vectors to the collection of each metric, and its title's vector."""
        await asyncio.gather(
            *(
                self._upsert(_collection(vectors.digest, metric), twin, vectors, metric)
                for metric in METRICS
            ),
            self._upsert(_title_collection(titles.digest), twin, titles, "cosine"),
        )

    async def _upsert(self, collection: str, twin: Twin, vectors: Vectors, metric: str) -> None:
        spec = CollectionSpec(collection, vectors.rows.shape[1], vectors.digest, metric=metric)
        await self._search.upsert_or_create(spec, [Document(twin.id, vectors.rows[0])])


def _collection(model_digest: str, metric: str) -> str:
    """Return the search collection of the pictures that a model has embedded."""
    return f"twins-{model_digest[:16]}-{metric}"


def _collections(image_digest: str, text_digest: str) -> list[str]:
    """Return the search collections of a twin that these models have embedded."""
    pictures = [_collection(image_digest, metric) for metric in METRICS]
    return [*pictures, _title_collection(text_digest)]


def _title_collection(model_digest: str) -> str:
    """Return the search collection of the titles that a model has embedded."""
    return f"twin-titles-{model_digest[:16]}"


def _media_type(image: bytes) -> str:
    """Return the media type of an image file by its signature."""
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "image/webp"
    for signature, media_type in _SIGNATURES:
        if image.startswith(signature):
            return media_type
    return "application/octet-stream"


def _digest(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


def _check_limit(limit: int) -> None:
    if not 0 <= limit <= MAX_LIMIT:
        raise InvalidArgument(
            "BAD_LIMIT", f"limit must be 1 to {MAX_LIMIT}, or 0 for the default.", field="limit"
        )


def _not_found(key: str) -> NotFound:
    return NotFound("TWIN_NOT_FOUND", "There is no twin with this id.", field="id", id=key)
