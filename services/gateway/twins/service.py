"""Finds the picture most like another: vectors in search, pictures and titles in the store.

Twins keep the model's unnormalised output, in one collection for each metric, so that the metrics
may rank differently. A collection belongs to one model: twins of another model are not found until
they are added again.
"""

import asyncio
import hashlib
import re
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from services.errors import InvalidArgument, NotFound
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import METRICS, CollectionSpec, Document, Hit, Query, Vectors
from services.gateway.twins.store import TwinStore

DEFAULT_LIMIT = 5
MOST = 100
ID_BYTES = 256
TITLE_CHARACTERS = 200
TAGS = 32
_MEDIA_TYPES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)


@dataclass(frozen=True)
class Twin:
    """A picture that is kept; ``similarity`` and ``distance`` are those to what was looked for."""

    id: str
    title: str
    tags: list[str]
    media_type: str
    digest: str
    model_digest: str
    similarity: float = 0.0
    distance: float = 0.0


@dataclass(frozen=True)
class Found:
    """TwinService, nearest first, and how they were found; times are seconds."""

    twins: list[Twin]
    model: str
    model_digest: str
    embed: float
    search: float


@dataclass(frozen=True)
class Picture:
    """A picture as a caller adds it."""

    title: str
    image: bytes
    id: str = ""
    tags: list[str] = field(default_factory=list)

    def check(self) -> "Picture":
        """Return the picture with an id. Raises InvalidArgument for what cannot be kept."""
        title = self.title.strip()
        if not title or len(title) > TITLE_CHARACTERS:
            raise InvalidArgument(
                "BAD_TITLE", f"A title has 1 to {TITLE_CHARACTERS} characters.", field="title"
            )
        if len(self.tags) > TAGS or any(
            not tag or len(tag) > TITLE_CHARACTERS for tag in self.tags
        ):
            raise InvalidArgument("BAD_TAGS", f"At most {TAGS} tags, none empty.", field="tags")
        key = self.id or _slug(title)
        if len(key.encode()) > ID_BYTES:
            raise InvalidArgument("BAD_ID", f"An id has at most {ID_BYTES} bytes.", field="id")
        return replace(self, id=key, title=title)


class TwinService:
    """Keeps pictures and finds the ones most like another."""

    def __init__(self, store: TwinStore, backends: Backends) -> None:
        self._store = store
        self._embedder = backends.embedder
        self._search = backends.search

    async def find(self, image: bytes, metric: str, limit: int) -> Found:
        """Find the twins of a picture file; it is embedded and forgotten."""
        _check_limit(limit)
        if not image:
            raise InvalidArgument("EMPTY_PICTURE", "The picture is empty.", field="image")
        started = time.perf_counter()
        vectors = await self._embedder.embed_image(image)
        return await self._nearest(_collection(vectors, metric), vectors, limit, started)

    async def find_by_text(self, text: str, metric: str, limit: int) -> Found:
        """Find twins by a text: among the pictures if their model reads text, else by their titles.

        Titles are unit vectors, so there every metric ranks alike, and the scores are cosines.
        """
        _check_limit(limit)
        if not text.strip():
            raise InvalidArgument("EMPTY_TEXT", "The text is empty.", field="text")
        started = time.perf_counter()
        vectors = await self._embedder.embed_text_as_image(text)
        if vectors is not None:
            return await self._nearest(_collection(vectors, metric), vectors, limit, started)
        vectors = await self._embedder.embed_queries([text])
        return await self._nearest(_titles(vectors), vectors, limit, started)

    async def add(self, picture: Picture) -> tuple[Twin, bool]:
        """Keep a picture; say whether it is new. The same picture again costs no model."""
        picture = picture.check()
        digest = hashlib.sha256(picture.image).hexdigest()
        record = await self._store.get(picture.id)
        earlier = Twin(**record) if record else None
        twin = Twin(
            id=picture.id,
            title=picture.title,
            tags=picture.tags,
            media_type=_media_type(picture.image),
            digest=digest,
            model_digest=await self._embedder.image_model_digest(),
        )
        if earlier == twin and not await self._search.missing(
            _name(twin.model_digest, "cosine"), [twin.id]
        ):
            return twin, False
        vectors = await self._embedder.embed_image(picture.image)
        twin = replace(twin, model_digest=vectors.digest)
        await self._store.put(twin.id, asdict(twin), picture.image)
        await self._index(twin, vectors)
        return twin, earlier is None

    async def page(self, size: int, token: str) -> tuple[list[Twin], str]:
        """Return a page of twins in the order of their ids, and the next page's token."""
        records, following = await self._store.page(size, token)
        return [Twin(**record) for record in records], following

    async def picture(self, key: str) -> tuple[bytes, str]:
        """Return a twin's picture file and its media type. Raises NotFound if it is not there."""
        image = await self._store.picture(key)
        if image is None:
            raise _not_found(key)
        return image, _media_type(image)

    async def delete(self, key: str) -> None:
        """Delete a twin; what the store does not know is found no more. Raises NotFound."""
        record = await self._store.get(key)
        if record is None:
            raise _not_found(key)
        await self._store.delete(key)
        titles = await self._embedder.embed_documents([record["title"]])
        names = [_name(record["model_digest"], metric) for metric in METRICS]
        await asyncio.gather(
            *(self._search.delete(name, [key]) for name in [*names, _titles(titles)])
        )

    async def _nearest(
        self, collection: str, vectors: Vectors, limit: int, started: float
    ) -> Found:
        embedded = time.perf_counter()
        query = Query(collection, vectors.rows[0], limit or DEFAULT_LIMIT)
        try:
            [hits] = await self._search.search([query], vectors.digest)
        except NotFound:
            hits = []  # no twin was added with this model yet
        twins = await self._read(hits)
        seconds = time.perf_counter() - embedded
        return Found(twins, vectors.model, vectors.digest, embedded - started, seconds)

    async def _read(self, hits: Sequence[Hit]) -> list[Twin]:
        records = await self._store.get_many([hit.id for hit in hits])
        return [
            replace(Twin(**record), similarity=hit.similarity, distance=hit.distance)
            for hit, record in zip(hits, records, strict=True)
            if record
        ]

    async def _index(self, twin: Twin, vectors: Vectors) -> None:
        titles = await self._embedder.embed_documents([". ".join([twin.title, *twin.tags])])
        await asyncio.gather(
            *(self._upsert(_collection(vectors, name), twin, vectors, name) for name in METRICS),
            self._upsert(_titles(titles), twin, titles, "cosine"),
        )

    async def _upsert(self, collection: str, twin: Twin, vectors: Vectors, metric: str) -> None:
        spec = CollectionSpec(collection, vectors.rows.shape[1], vectors.digest, metric=metric)
        await self._search.upsert_or_create(spec, [Document(twin.id, vectors.rows[0])])


def _collection(vectors: Vectors, metric: str) -> str:
    return _name(vectors.digest, metric)


def _name(digest: str, metric: str) -> str:
    return f"twins-{digest[:16]}-{metric}"


def _titles(vectors: Vectors) -> str:
    return f"twin-titles-{vectors.digest[:16]}"


def _slug(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return slug or hashlib.sha256(title.encode()).hexdigest()[:16]


def _media_type(image: bytes) -> str:
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "image/webp"
    for magic, media_type in _MEDIA_TYPES:
        if image.startswith(magic):
            return media_type
    return "application/octet-stream"


def _check_limit(limit: int) -> None:
    if not 0 <= limit <= MOST:
        raise InvalidArgument("BAD_LIMIT", f"limit is at most {MOST}.", field="limit")


def _not_found(key: str) -> NotFound:
    return NotFound("TWIN_NOT_FOUND", "There is no such twin.", field="id", id=key)
