"""Judges whether the answer to one question may be served for another.

A ``Verifier`` is boosted trees over signs on the words, and small networks over those signs and the
two questions' vectors; their sum, on a calibrated curve, is the probability that the two ask the
same. It needs numpy alone. ``memetwin cache train`` makes it; its card is in ``shipped/README.md``.
"""

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gateway.cache.verifier.features import Text, compare, contradiction

Array = NDArray[np.float32]

SHIPPED = Path(__file__).parent / "weights" / "verifier.npz"
# Near questions are refused if they are less likely the same than the first of these, or than the
# second where a sign speaks against it. Of steps of .1 these let the fewest opposites through that
# keep 95 % of the duplicates, both at a cosine of .85, on the calibration part and opposites made
# of its questions. Who asks for less than NEAR wants far questions too: there only signs refuse.
NEAR = 0.8
FLOOR, FLOOR_WITH_SIGN = 0.3, 0.7
# A logistic curve over the cosine alone, where there are no words to look at (a lookup by vector):
# fitted to 10,000 pairs of Quora questions; `tests/bench/cache.py` fits it again.
_SLOPE, _MIDDLE = 10.91, 0.816

# How the embedder may compute a model's vectors other than by float32.
_WAYS = (
    "openvino bfloat16", "openvino int8", "torch bfloat16", "cuda float16", "cuda bfloat16",
)  # fmt: skip


@dataclass(frozen=True)
class Side:
    """A question: its words, its unit vector float32 [dimensions] if known, and by which model."""

    text: Text
    vector: Array | None = None
    digest: str = ""


class Verifier:
    """Estimates how likely two questions ask the same."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._digests = _digests(str(arrays["digest"]))
        self._rarity = dict(
            zip(str(arrays["stems"]).split("\n"), arrays["rarity"].tolist(), strict=True)
        )
        self._mean, self._scale = arrays["mean"], arrays["scale"]
        self._trees = Trees(
            *(arrays[f"tree_{name}"] for name in ("feature", "threshold", "left", "right", "value"))
        )
        nets = {name for name in arrays if name.startswith("net")}
        self._nets = [
            {name[5:]: arrays[name].astype(np.float32) for name in nets if name[3] == number}
            for number in sorted({name[3] for name in nets})
        ]
        self._curves = {"words": arrays["curve_words"], "whole": arrays["curve_whole"]}

    @classmethod
    @functools.cache
    def load(cls, path: Path = SHIPPED) -> "Verifier":
        """Read a verifier's file."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls({name: arrays[name] for name in arrays.files})

    def probability(self, one: Side, other: Side, similarity: float) -> float:
        """Return the probability that two questions of this cosine ask the same, in (0, 1).

        The networks know the vectors of one model; for others the words and the cosine must do.
        """
        signs = self.signs(one.text, other.text, similarity)
        score, curve = self._trees.score(signs), "words"
        known = one.digest == other.digest and one.digest in self._digests
        if known and one.vector is not None and other.vector is not None:
            score += self._network(one.vector, other.vector, signs)
            curve = "whole"
        slope, shift = self._curves[curve]
        return _logistic(float(slope * score + shift))

    def refuses(self, one: Side, other: Side, similarity: float, probability: float) -> bool:
        """Say whether two questions of this cosine and probability most likely differ after all."""
        if contradiction(one.text, other.text):
            return probability < FLOOR_WITH_SIGN
        return similarity >= NEAR and probability < FLOOR

    def signs(self, one: Text, other: Text, similarity: float) -> Array:
        """Return the signs and the cosine, in units of their spread, float32 [signs]."""
        row = features(one, other, similarity, lambda stem: self._rarity.get(stem, 1.0))
        return np.asarray((row - self._mean) / self._scale, np.float32)

    def _network(self, one: Array, other: Array, signs: Array) -> float:
        between = np.concatenate([np.abs(one - other), one * other]) * BETWEEN
        scores = []
        for net in self._nets:
            left = np.maximum(net["signs_weight"] @ signs + net["signs_bias"], 0)
            right = np.maximum(net["vectors_weight"] @ between + net["vectors_bias"], 0)
            hidden = net["both_weight"] @ np.concatenate([left, right]) + net["both_bias"]
            scores.append(net["out_weight"] @ np.maximum(hidden, 0) + net["out_bias"])
        return float(np.mean(scores))


def _digests(digest: str) -> frozenset[str]:
    """Return the digests of a model's vectors: as torch makes them, and by the runtimes near that.

    The embedder makes them the same way (``models/sentence_transformer``). The vectors they name
    have cosines above .99, which is little beside two questions that ask the same.
    """
    own = (hashlib.sha256(f"{digest} {way}".encode()).hexdigest() for way in _WAYS)
    return frozenset({digest, *own})


BETWEEN = 20.0  # brings differences and products of unit vectors near one


def features(one: Text, other: Text, similarity: float, weight: Any) -> NDArray[np.float64]:
    """Return what the trees look at: the signs, the cosine and its fourth power."""
    return np.array([*compare(one, other, weight), similarity, similarity**4])


@dataclass(frozen=True)
class Trees:
    """Boosted trees as tables, [trees, nodes]; a leaf's children are itself."""

    feature: NDArray[np.int16]
    threshold: Array
    left: NDArray[np.int16]
    right: NDArray[np.int16]
    value: Array

    def score(self, row: Array) -> float:
        """Return the sum of the leaves that a row of features reaches."""
        trees = np.arange(len(self.feature))
        node = np.zeros(len(trees), np.int16)
        while True:
            goes_left = row[self.feature[trees, node]] <= self.threshold[trees, node]
            child = np.where(goes_left, self.left[trees, node], self.right[trees, node])
            if (child == node).all():
                return float(self.value[trees, node].sum())
            node = child


def by_cosine(similarity: float) -> float:
    """Return the probability that questions of this cosine ask the same, knowing nothing else."""
    return _logistic(_SLOPE * (similarity - _MIDDLE))


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-min(max(value, -30.0), 30.0)))
