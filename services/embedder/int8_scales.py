"""The scale of each model's INT8 codes, which is the same in every response.

Each model embeds the calibration samples once, and the vectors are stored under the model's
digest. The scale for any number of dimensions follows from them. So the same vector gets the same
bytes in all responses, after restarts and on all replicas.
"""

import logging
import math
import os
from pathlib import Path

import numpy as np

from services.embedder import encodings
from services.embedder.calibration_samples import SAMPLES
from services.embedder.models.model import Content, Model, Vectors

log = logging.getLogger(__name__)

# Raise it when a calibration sample changes.
_SAMPLES_VERSION = 1
# The range of codes exceeds that of the calibration vectors by this factor, so that few values are
# clipped.
_HEADROOM = 1.25
# The range is rounded up to one of two steps per power of two, so that rounding differences between
# machines do not change the scale.
_STEPS_PER_DOUBLING = 2


class Int8Scales:
    """Scales derived from a model's calibration vectors, float32 [n, d]."""

    def __init__(self, calibration_vectors: Vectors) -> None:
        self._vectors = calibration_vectors
        self._scales: dict[tuple[int, bool], float] = {}

    @classmethod
    def for_model(cls, model: Model, cache_folder: Path | None) -> "Int8Scales":
        """Read a model's calibration vectors from ``cache_folder``, or compute and store them.

        A failure to store them is only logged. A model without vectors has no calibration vectors.
        """
        modalities = sorted(model.info.modalities & SAMPLES.keys())
        if not modalities:
            return cls(np.zeros((0, model.info.dimensions), np.float32))
        name = f"int8-samples-{_SAMPLES_VERSION}.npy"
        file = cache_folder.expanduser() / model.info.digest[:32] / name if cache_folder else None
        vectors = _read(file, model.info.dimensions) if file else None
        if vectors is None:
            vectors = np.vstack([_embed(model, SAMPLES[modality]()) for modality in modalities])
            if file:
                _write(file, vectors)
        return cls(vectors)

    def scale(self, dimensions: int, *, normalize: bool) -> float:
        """Return the value of one INT8 step, for vectors with this truncation and normalisation."""
        key = dimensions, normalize
        if key not in self._scales:
            vectors = encodings.truncate_dimensions(self._vectors, dimensions, normalize=normalize)
            largest = float(np.abs(vectors).max(initial=0))
            self._scales[key] = _rounded_up(_HEADROOM * largest) / 127
        return self._scales[key]


def _rounded_up(largest: float) -> float:
    if not largest:
        return 1.0
    return float(2 ** (math.ceil(_STEPS_PER_DOUBLING * math.log2(largest)) / _STEPS_PER_DOUBLING))


def _embed(model: Model, contents: list[Content]) -> Vectors:
    """Embed one input at a time. A model is calibrated only once, so speed does not matter."""
    return np.vstack([model.encode(model.prepare([content], "")) for content in contents])


def _read(file: Path, dimensions: int) -> Vectors | None:
    try:
        vectors: Vectors = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return vectors if vectors.ndim == 2 and vectors.shape[1] == dimensions else None  # noqa: PLR2004


def _write(file: Path, vectors: Vectors) -> None:
    temporary = file.with_suffix(f".{os.getpid()}.npy")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(temporary, vectors)
        temporary.replace(file)
    except OSError as error:
        log.warning("could not store calibration vectors: %s", error, extra={"file": str(file)})
