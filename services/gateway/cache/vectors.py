"""Converts prompt vectors: from callers, to unit vectors, and to the form that entries store."""

import base64
import re

import numpy as np
from numpy.typing import NDArray

from services.errors import InvalidArgument
from services.gateway.backends.types import Vectors

# The digest becomes a part of a search collection's name.
_DIGEST = re.compile(r"[A-Za-z0-9._-]{1,256}")


def from_caller(vector: NDArray[np.float32], digest: str) -> Vectors:
    """Return a caller's prompt vector in the form that the embedder returns.

    Args:
        vector: float32 [dimensions].
        digest: digest of the model that computed the vector.

    Raises:
        InvalidArgument: the vector or the digest is empty, or the digest is malformed.
    """
    if not vector.size or not digest:
        raise InvalidArgument(
            "BAD_VECTOR",
            "The vector or its model digest is empty. Send both.",
            field="vector",
        )
    if not _DIGEST.fullmatch(digest):
        raise InvalidArgument(
            "BAD_DIGEST",
            "model_digest is malformed. Send 1 to 256 letters, digits, '.', '_' or '-', as GetModel"
            " returns it.",
            field="model_digest",
        )
    return Vectors(vector.reshape(1, -1), "", digest)


def is_from_caller(vectors: Vectors) -> bool:
    """Return whether ``from_caller`` made the vectors, and not the embedder."""
    return not vectors.model


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a vector, float32 [dimensions], scaled to length 1; a zero vector stays zero."""
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def clamp_cosine(similarity: float) -> float:
    """Return a cosine similarity clamped to [-1, 1]; rounding may exceed it."""
    return min(1.0, max(-1.0, similarity))


def pack(vector: NDArray[np.float32]) -> str:
    """Return the unit vector of ``vector``, float32 [dimensions], as base64 of float16."""
    return base64.b64encode(unit(vector).astype("<f2").tobytes()).decode()


def unpack(text: str) -> NDArray[np.float32] | None:
    """Return a packed vector, float32 [dimensions], or None for an empty text."""
    return np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32) if text else None
