"""What becomes of vectors on their way out: cut, normalised, packed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.errors import InvalidArgument

Rows = NDArray[np.float32]
_TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Packed:
    """Vectors as bytes, row-major; ``scale`` and ``offset`` [dimensions] turn INT8 back."""

    data: bytes
    dimensions: int
    scale: list[float]
    offset: list[float]


def check_dimensions(dimensions: int, most: int) -> None:
    """Raise InvalidArgument if a model of ``most`` dimensions cannot be cut to so many (0: all)."""
    if not 0 <= dimensions <= most:
        raise InvalidArgument(
            "BAD_DIMENSIONS", f"The model has {most} dimensions.", field="dimensions", most=most
        )


def shape(rows: Rows, dimensions: int, *, normalize: bool) -> Rows:
    """Cut vectors, float32 [n, d], to their first ``dimensions`` (0: all); normalise them if asked.

    A cut vector is normalised if the model's whole one was (Matryoshka).
    """
    if dimensions and dimensions < rows.shape[1]:
        whole = np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
        rows, normalize = rows[:, :dimensions], normalize or bool(whole)
    if not normalize:
        return rows
    norms = np.sqrt(np.vecdot(rows, rows))
    unit_rows: Rows = rows / np.maximum(norms, _TINY)[:, None]
    return unit_rows


def pack(rows: Rows, encoding: str, scale: float) -> Packed:
    """Pack vectors as ``float32``, ``float16``, ``int8`` or ``binary``.

    INT8 codes are multiples of ``scale``, the same for all dimensions, around zero: codes compare
    as the vectors do, by cosine, inner product or distance. What they cannot reach is clipped.
    """
    count = rows.shape[1]
    if encoding == "float16":
        return Packed(rows.astype("<f2").tobytes(), count, [], [])
    if encoding == "binary":
        return Packed(np.packbits(rows > 0, axis=1).tobytes(), count, [], [])
    if encoding == "int8":
        codes = np.clip(np.rint(rows / np.float32(scale)), -127, 127).astype(np.int8)
        return Packed(codes.tobytes(), count, [scale] * count, [0.0] * count)
    return Packed(rows.astype("<f4", copy=False).tobytes(), count, [], [])
