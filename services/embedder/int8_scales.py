"""How far a model's vectors reach, so that INT8 means the same in every reply.

Each model embeds a sample once, which is kept by its digest. The scale of every cut follows from
it, so two replies, two starts and two replicas give the same bytes for the same vector.
"""

import json
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from services.embedder import encodings
from services.embedder.encodings import Rows
from services.embedder.models.model import AudioClip, Content, Model

log = logging.getLogger(__name__)

# Counted up when a sample changes.
_VERSION = 1
_TEXTS = Path(__file__).with_name("models") / "sample.json"
_COUNT = 48
_SIDE = 256
_RATE = 48_000
# Vectors may reach so much farther than those of the sample before they are clipped.
_MARGIN = 1.25
# The scale is one of so many for each doubling, so that the last digits of a machine's
# arithmetic do not show in it.
_STEPS = 2


class Ranges:
    """The vectors of a sample, float32 [n, dimensions], and the scales that follow from them."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._scales: dict[tuple[int, bool], float] = {}

    @classmethod
    def of(cls, model: Model, exports: Path | None) -> "Ranges":
        """Read a model's sample from ``exports``, or let it be embedded and keep it there.

        That nothing can be kept is no error. A model that makes no vectors has an empty sample.
        """
        kinds = sorted(model.info.modalities & _SAMPLES.keys())
        if not kinds:
            return cls(np.zeros((0, model.info.dimensions), np.float32))
        name = f"ranges-{_VERSION}.npy"
        file = exports.expanduser() / model.info.digest[:32] / name if exports else None
        found = _read(file, model.info.dimensions) if file else None
        if found is None:
            found = np.vstack([_embed(model, _SAMPLES[kind]()) for kind in kinds])
            if file:
                _write(file, found)
        return cls(found)

    def scale(self, dimensions: int, *, normalize: bool) -> float:
        """Return what one step of an INT8 code is worth, in vectors that are shaped like this."""
        key = dimensions, normalize
        if key not in self._scales:
            rows = encodings.shape(self._rows, dimensions, normalize=normalize)
            self._scales[key] = _stepped(_MARGIN * float(np.abs(rows).max(initial=0))) / 127
        return self._scales[key]


def _stepped(reach: float) -> float:
    if not reach:
        return 1.0
    return float(2 ** (math.ceil(_STEPS * math.log2(reach)) / _STEPS))


def _embed(model: Model, contents: list[Content]) -> Rows:
    """Embed one by one, in batches as small as they come: it is done once."""
    return np.vstack([model.encode(model.prepare([content], "")) for content in contents])


def _texts() -> list[Content]:
    pairs = json.loads(_TEXTS.read_text("utf-8"))
    return [text for pair in pairs for text in pair]


def _pictures() -> list[Content]:
    """Draw fields of colours, from soft to coarse."""
    chance = np.random.default_rng(0)
    return [
        Image.fromarray(chance.integers(0, 256, (n, n, 3), np.uint8)).resize(
            (_SIDE, _SIDE), Image.Resampling.BICUBIC
        )
        for n in range(2, 2 + _COUNT)
    ]


def _sounds() -> list[Content]:
    """Make seconds of tones in noise."""
    chance, time = np.random.default_rng(0), np.arange(_RATE) / _RATE
    return [
        AudioClip(
            (
                0.5 * np.sin(2 * np.pi * pitch * time)
                + loud * chance.uniform(-1, 1, _RATE)
            ).astype(np.float32),
            _RATE,
        )
        for pitch, loud in zip(
            np.geomspace(60, 8_000, _COUNT), np.geomspace(0.001, 0.5, _COUNT), strict=True
        )
    ]  # fmt: skip


_SAMPLES: dict[str, Callable[[], list[Content]]] = {
    "text": _texts,
    "image": _pictures,
    "audio": _sounds,
}


def _read(file: Path, dimensions: int) -> Rows | None:
    try:
        rows: Rows = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.ndim == 2 and rows.shape[1] == dimensions else None  # noqa: PLR2004


def _write(file: Path, rows: Rows) -> None:
    beside = file.with_suffix(f".{os.getpid()}.npy")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(beside, rows)
        beside.replace(file)
    except OSError as error:
        log.warning("ranges cannot be kept: %s", error)
