"""Post-processing of vectors: truncation to fewer dimensions, normalisation, wire encodings."""

from dataclasses import dataclass

import numpy as np

from services.embedder.models.model import Vectors
from services.errors import InvalidArgument

_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class EncodedVectors:
    """Vectors as bytes, row-major and little-endian.

    Attributes:
        scale: float [dimensions] for INT8: value = code * scale + offset. Empty otherwise.
        offset: float [dimensions] for INT8. Empty otherwise.
    """

    data: bytes
    dimensions: int
    scale: list[float]
    offset: list[float]


def validate_dimensions(dimensions: int, max_dimensions: int) -> None:
    """Check that a model of ``max_dimensions`` can be truncated to ``dimensions`` (0 keeps all).

    Raises:
        InvalidArgument: ``dimensions`` is negative or above ``max_dimensions``.
    """
    if not 0 <= dimensions <= max_dimensions:
        raise InvalidArgument(
            "BAD_DIMENSIONS",
            f"dimensions is {dimensions}. It must be 0 (keep all) to {max_dimensions}.",
            field="dimensions",
            max_dimensions=max_dimensions,
        )


def truncate_dimensions(vectors: Vectors, dimensions: int, *, normalize: bool) -> Vectors:
    """Keep the first ``dimensions`` of vectors, float32 [n, d]; 0 keeps all.

    Truncation is that of Matryoshka embeddings (https://arxiv.org/abs/2205.13147): if the whole
    vectors have unit length, so do the truncated ones. ``normalize`` scales all to unit length.
    """
    if dimensions and dimensions < vectors.shape[1]:
        unit_length = np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        vectors, normalize = vectors[:, :dimensions], normalize or bool(unit_length)
    if not normalize:
        return vectors
    norms = np.sqrt(np.vecdot(vectors, vectors))
    normalized: Vectors = vectors / np.maximum(norms, _TINY)[:, None]
    return normalized


def encode(vectors: Vectors, encoding: str, scale: float) -> EncodedVectors:
    """Encode vectors, float32 [n, d], as ``float32``, ``float16``, ``int8`` or ``binary``.

    INT8 codes are multiples of ``scale`` around zero, with the same scale for all dimensions. Codes
    therefore compare like the vectors, by cosine, inner product or distance. Values beyond ±127
    codes are clipped.
    """
    dimensions = vectors.shape[1]
    if encoding == "float16":
        return EncodedVectors(vectors.astype("<f2").tobytes(), dimensions, [], [])
    if encoding == "binary":
        bits = np.packbits(vectors > 0, axis=1)
        return EncodedVectors(bits.tobytes(), dimensions, [], [])
    if encoding == "int8":
        codes = np.clip(np.rint(vectors / np.float32(scale)), -127, 127).astype(np.int8)
        return EncodedVectors(codes.tobytes(), dimensions, [scale] * dimensions, [0.0] * dimensions)
    return EncodedVectors(vectors.astype("<f4", copy=False).tobytes(), dimensions, [], [])
