"""Stores pictures and finds those that are most similar to a query.

Search holds the vectors, and the store holds the pictures. Each metric has a collection with the
unnormalised output of the image model, so that the metrics may rank differently. A collection
belongs to one model: twins that another model embedded are not found until they are added again.

Twins belong to tenants. With ``is_shared``, all tenants also find the default tenant's twins and
see their pictures, but only the default tenant lists and changes them. A tenant's own twin hides
the shared one with its id.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from services.errors import InvalidArgument, NotFound
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import METRICS, CollectionSpec, Document, Hit, Query, Vectors
from services.gateway.redis_store import from_record
from services.gateway.tenants import DEFAULT_TENANT, Tenant, Tenants
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
    """Adds, finds, lists and deletes twins.

    Args:
        store: the records and the pictures.
        backends: the embedder and search.
        tenants: finds the tenant of a call.
        is_shared: whether all tenants find the default tenant's twins.
    """

    def __init__(
        self, store: TwinStore, backends: Backends, tenants: Tenants, *, is_shared: bool
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._is_shared = is_shared
        self.changes = Counter[str]()  # that this process has made, by the tenant's tag
        self._embedder = backends.embedder
        self._search = backends.search

    async def find(self, image: bytes, metric: str, limit: int) -> TwinResults:
        """Find the twins of a picture file, which is not stored."""
        _check_limit(limit)
        started = time.perf_counter()
        vectors = await self.embed_photo(image)
        name = picture_collection(vectors.digest, metric)
        return await self._nearest(name, vectors, limit or DEFAULT_LIMIT, started)

    async def embed_photo(self, image: bytes) -> Vectors:
        """Return the vector of a picture file, not normalised. Nothing of it is stored."""
        if not image:
            raise InvalidArgument(
                "EMPTY_PICTURE", "The picture is empty. Send an image file.", field="image"
            )
        # A visitor's picture leaves nothing behind, not even a vector in the embedder's cache.
        return await self._embedder.embed_image(image, no_store=True)

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
            collection = picture_collection(vectors.digest, metric)
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
        return await self._nearest(collection, vectors, limit or DEFAULT_LIMIT, started)

    async def add(self, picture: Picture) -> tuple[Twin, bool]:
        """Add a picture; return its twin, and whether that is new.

        A picture that is already there, unchanged and embedded by the current models, is not
        embedded again.
        """
        picture = picture.validated()
        tenant = await self._tenants.current()
        digest = await asyncio.to_thread(_digest, picture.image)
        record = await self._store.get(tenant, picture.id)
        earlier = from_record(Twin, record) if record else None
        source = picture.source
        if earlier and earlier.digest == digest:
            source = source or earlier.source
        twin = Twin(
            id=picture.id,
            title=picture.title,
            tags=picture.tags,
            media_type=_media_type(picture.image),
            digest=digest,
            model_digest=await self._embedder.image_model_digest(),
            source=source,
        )
        if earlier == twin and await self._is_indexed(tenant, twin):
            return twin, False
        vectors = await self._embedder.embed_image(picture.image)
        titles = await self._embedder.embed_documents([". ".join([twin.title, *twin.tags])])
        twin = replace(twin, model_digest=vectors.digest)
        before = await self._collections(tenant, earlier) if earlier else set()
        current = _collections(tenant, vectors.digest, titles.digest)
        # The store comes first, so that a later call finds every vector of a call that was cut off.
        await self._store.put(tenant, asdict(twin), picture.image, current)
        await self._index(tenant, twin, vectors, titles)
        self.changes[tenant.tag] += 1
        if stale := before.difference(current):
            await self._delete_vectors(twin.id, stale)
            await self._store.remove_collections(tenant, twin.id, stale)
        return twin, earlier is None

    async def page(self, size: int, token: str) -> tuple[list[Twin], str]:
        """Return a page of twins in the order of their ids, and the next page's token."""
        tenant, tokens = await self._tenants.current(), self._tenants.page_tokens
        listed = ("twins", tenant.tag)
        after = await tokens.read(listed, token)
        records, last = await self._store.page(tenant, size, after)
        return [from_record(Twin, record) for record in records], await tokens.write(listed, last)

    async def picture(self, key: str) -> tuple[bytes, str]:
        """Return the picture file of a twin and its media type. Raises NotFound."""
        for owner in await self.readable():
            image = await self._store.picture(owner, key)
            if image is not None:
                return image, _media_type(image)
        raise _not_found(key)

    async def delete(self, key: str) -> None:
        """Delete a twin. Raises NotFound.

        The store comes last, so that a call that was cut off can be repeated.
        """
        tenant = await self._tenants.current()
        record = await self._store.get(tenant, key)
        if record is None:
            raise _not_found(key)
        twin = from_record(Twin, record)
        await self._delete_vectors(key, await self._collections(tenant, twin))
        await self._store.delete(tenant, key)
        self.changes[tenant.tag] += 1

    async def readable(self) -> list[Tenant]:
        """Return the tenants whose twins the caller may read, beginning with its own."""
        own = await self._tenants.current()
        return [own, DEFAULT_TENANT] if self._is_shared and own.tag else [own]

    async def _nearest(
        self, name: str, vectors: Vectors, limit: int, started: float
    ) -> TwinResults:
        """Return the twins nearest to ``vectors``, whose embedding began at ``started``.

        ``name`` is the owners' own name of the collection to search.
        """
        embedded = time.perf_counter()
        owners = await self.readable()
        found = await asyncio.gather(*(self._find(owner, name, vectors, limit) for owner in owners))
        twins = found[0]
        if len(owners) > 1:
            hidden = await self._store.get_many(owners[0], [twin.id for twin in found[1]])
            twins += [twin for twin, own in zip(found[1], hidden, strict=True) if own is None]
            twins = sorted(twins, key=lambda twin: -twin.similarity)[:limit]
        seconds = time.perf_counter() - embedded
        return TwinResults(twins, vectors.model, vectors.digest, embedded - started, seconds)

    async def _find(self, owner: Tenant, name: str, vectors: Vectors, limit: int) -> list[Twin]:
        """Return the twins of an owner that are nearest to ``vectors``."""
        query = Query(owner.collection_name(name), vectors.rows[0], limit)
        try:
            [hits] = await self._search.search([query], vectors.digest)
        except NotFound:
            return []  # no twin has been added with this model yet
        return await self._twins(owner, hits)

    async def _twins(self, owner: Tenant, hits: Sequence[Hit]) -> list[Twin]:
        records = await self._store.get_many(owner, [hit.id for hit in hits])
        return [
            replace(from_record(Twin, record), similarity=hit.similarity, distance=hit.distance)
            for hit, record in zip(hits, records, strict=True)
            if record
        ]

    async def _collections(self, tenant: Tenant, twin: Twin) -> set[str]:
        """Return the search collections that may hold a twin's vectors."""
        recorded = await self._store.collections(tenant, twin.id)
        if recorded:
            return recorded
        titles = await self._embedder.text_model()
        return set(_collections(tenant, twin.model_digest, titles.digest))

    async def _is_indexed(self, tenant: Tenant, twin: Twin) -> bool:
        """Return whether search holds a twin's vectors of the current models."""
        titles = await self._embedder.text_model()
        missing = await asyncio.gather(
            *(
                self._search.missing(name, [twin.id])
                for name in _collections(tenant, twin.model_digest, titles.digest)
            )
        )
        return not any(missing)

    async def _delete_vectors(self, key: str, collections: Iterable[str]) -> None:
        await asyncio.gather(*(self._search.delete(name, [key]) for name in collections))

    async def _index(self, tenant: Tenant, twin: Twin, vectors: Vectors, titles: Vectors) -> None:
        """Write a twin's vectors to the collection of each metric, and its title's vector."""
        writes = [
            (picture_collection(vectors.digest, metric), metric, vectors) for metric in METRICS
        ]
        writes.append((_title_collection(titles.digest), "cosine", titles))
        specs = [
            CollectionSpec(
                tenant.collection_name(name), one.rows.shape[1], one.digest, metric=metric
            )
            for name, metric, one in writes
        ]
        await asyncio.gather(
            *(
                self._search.upsert_or_create(spec, [Document(twin.id, one.rows[0])])
                for spec, (_, _, one) in zip(specs, writes, strict=True)
            )
        )


def picture_collection(model_digest: str, metric: str) -> str:
    """Return a tenant's name of the collection of the pictures that a model has embedded."""
    return f"twins-{model_digest[:16]}-{metric}"


def _collections(tenant: Tenant, image_digest: str, text_digest: str) -> list[str]:
    """Return the search collections of a twin that these models have embedded."""
    pictures = [picture_collection(image_digest, metric) for metric in METRICS]
    names = [*pictures, _title_collection(text_digest)]
    return list(map(tenant.collection_name, names))


def _title_collection(model_digest: str) -> str:
    """Return a tenant's name of the collection of the titles that a model has embedded."""
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
