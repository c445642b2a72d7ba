"""The map of the twins: their vectors on a plane, by principal component analysis (PCA)."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from services.gateway.backends.backends import Backends
from services.gateway.redis_store import from_record
from services.gateway.tenants import Tenant
from services.gateway.twins.service import TwinService, picture_collection
from services.gateway.twins.store import TwinStore
from services.gateway.twins.types import Twin

MAX_TWINS = 10_000  # of each owner
MAX_AGE = 30.0  # seconds until a map shows what other replicas have added
MAX_MAPS = 16
_PAGE = 500
_SAMPLE = 1000  # twins whose similarities are typical


@dataclass(frozen=True)
class Point:
    """A twin's place on the map. Both coordinates are within -1 and 1."""

    id: str
    title: str
    x: float
    y: float


@dataclass(frozen=True)
class Plane:
    """The plane through the centre of all vectors in which they differ most.

    Attributes:
        centre: mean of the unit vectors, float32 [dimensions].
        axes: the first two principal components, divided by the largest coordinate of a twin,
            float32 [2, dimensions].
    """

    centre: NDArray[np.float32]
    axes: NDArray[np.float32]

    @classmethod
    def through(cls, rows: NDArray[np.float32]) -> "Plane":
        """Return the plane of unit vectors, float32 [n, dimensions]."""
        centre = rows.mean(0)
        offsets = rows - centre
        _, vectors = np.linalg.eigh(offsets.T @ offsets)
        axes = vectors[:, :-3:-1].T
        # An axis may point either way. The map must not turn over when a twin is added.
        axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
        scale = np.abs(offsets @ axes.T).max(initial=0.0)
        return cls(centre, (axes / (scale or 1.0)).astype(np.float32))

    def project(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the points of unit vectors, float32 [n, 2], within -1 and 1."""
        points = np.zeros((len(rows), 2), np.float32)
        points[:, : len(self.axes)] = (rows - self.centre) @ self.axes.T
        return points.clip(-1, 1)


@dataclass(frozen=True)
class _Map:
    made: float
    changes: int
    plane: Plane | None
    points: list[Point]
    typical: float

    def is_old(self, changes: int) -> bool:
        return self.changes != changes or time.monotonic() - self.made > MAX_AGE


class TwinMap:
    """Places twins and photos on a plane. A map is kept for ``MAX_AGE`` seconds."""

    def __init__(self, store: TwinStore, backends: Backends, twins: TwinService) -> None:
        self._store = store
        self._twins = twins
        self._embedder = backends.embedder
        self._search = backends.search
        self._maps: dict[tuple[str, ...], _Map] = {}
        self._locks: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def points(self) -> tuple[list[Point], float]:
        """Return the points of the twins that the caller may see, and the typical similarity.

        There are at most 10,000 points of an owner. The typical similarity is the median cosine of
        two twins.
        """
        found = await self._map()
        return found.points, found.typical

    async def place(self, image: bytes) -> tuple[float, float] | None:
        """Return the place of a picture file, which is not stored; None without any twin."""
        vectors = await self._twins.embed_photo(image)
        plane = (await self._map()).plane
        if plane is None or plane.centre.shape != vectors.rows[0].shape:
            return None
        x, y = plane.project(_units(vectors.rows))[0].tolist()
        return x, y

    async def _map(self) -> _Map:
        owners = await self._twins.readable()
        digest = await self._embedder.image_model_digest()
        key = (digest, *(owner.tag for owner in owners))
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # a map takes a second, so callers wait for one that is being made
            cached = self._maps.pop(key, None)
            if cached is None or cached.is_old(self._changes(owners)):
                cached = await self._make(owners, digest)
            self._maps[key] = cached
            while len(self._maps) > MAX_MAPS:
                del self._maps[next(iter(self._maps))]
        return cached

    def _changes(self, owners: Sequence[Tenant]) -> int:
        return sum(self._twins.changes[owner.tag] for owner in owners)

    async def _make(self, owners: Sequence[Tenant], digest: str) -> _Map:
        began, changes = time.monotonic(), self._changes(owners)
        twins: dict[str, Twin] = {}
        rows: dict[str, NDArray[np.float32]] = {}
        for owner in reversed(owners):  # an own twin replaces the shared one with its id
            owned = {twin.id: twin for twin in await self._all(owner)}
            twins |= owned
            name = owner.collection_name(picture_collection(digest, "cosine"))
            keys = list(owned)
            for start in range(0, len(keys), _PAGE):
                rows |= await self._search.vectors(name, keys[start : start + _PAGE])
        shown = [twin for twin in twins.values() if twin.id in rows]
        if not shown:
            return _Map(began, changes, None, [], 0.0)
        matrix = np.stack([rows[twin.id] for twin in shown])
        plane, coordinates, typical = await asyncio.to_thread(_lay_out, matrix)
        found = zip(shown, coordinates.tolist(), strict=True)
        points = [Point(one.id, one.title, x, y) for one, (x, y) in found]
        return _Map(began, changes, plane, points, typical)

    async def _all(self, owner: Tenant) -> list[Twin]:
        found: list[Twin] = []
        token = ""
        while len(found) < MAX_TWINS:
            records, token = await self._store.page(owner, _PAGE, token)
            found += [from_record(Twin, record) for record in records]
            if not token:
                break
        return found[:MAX_TWINS]


def _lay_out(matrix: NDArray[np.float32]) -> tuple[Plane, NDArray[np.float32], float]:
    """Return the plane of vectors, their points, and the median cosine of two of them."""
    rows = _units(matrix)
    plane = Plane.through(rows)
    sample = rows[:: -(-len(rows) // _SAMPLE)]
    cosines = (sample @ sample.T)[np.triu_indices(len(sample), 1)]
    return plane, plane.project(rows), float(np.median(cosines)) if len(cosines) else 0.0


def _units(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    units: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1)[:, None], 1e-12)
    return units
