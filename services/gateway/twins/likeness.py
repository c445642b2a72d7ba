"""How similar several pictures are to one twin, for example a photo with parts of it covered."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.errors import InvalidArgument, NotFound
from services.gateway.backends.backends import Backends
from services.gateway.twins.service import TwinService, picture_collection

MAX_PICTURES = 65  # eight rows of eight covered parts, and the whole photo


class Likeness:
    """Compares pictures, which are not stored, with a twin."""

    def __init__(self, backends: Backends, twins: TwinService) -> None:
        self._embedder = backends.embedder
        self._search = backends.search
        self._twins = twins

    async def similarities(self, key: str, images: Sequence[bytes]) -> NDArray[np.float64]:
        """Return the cosine similarity of each picture file to a twin, float64 [n].

        Raises:
            InvalidArgument: there are too few or too many pictures, or one cannot be read.
            NotFound: there is no such twin, or the current model has not embedded it.
        """
        if not 1 <= len(images) <= MAX_PICTURES:
            raise InvalidArgument(
                "BAD_PICTURE_COUNT",
                f"The form has {len(images)} pictures. Send 1 to {MAX_PICTURES} parts named image.",
                field="image",
                limit=MAX_PICTURES,
            )
        digest = await self._embedder.image_model_digest()
        twin = await self._vector(key, digest)
        vectors = await self._embedder.embed_images(images)
        if vectors.digest != digest:
            raise _not_embedded(key)
        rows = vectors.rows.astype(np.float64)
        norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(twin)
        cosines: NDArray[np.float64] = rows @ twin / np.maximum(norms, 1e-12)
        return cosines

    async def _vector(self, key: str, digest: str) -> NDArray[np.float64]:
        for owner in await self._twins.readable():
            name = owner.collection_name(picture_collection(digest, "cosine"))
            found = await self._search.vectors(name, [key])
            if key in found:
                return found[key].astype(np.float64)
        raise _not_embedded(key)


def _not_embedded(key: str) -> NotFound:
    return NotFound("TWIN_NOT_FOUND", "There is no twin with this id.", field="id", id=key)
