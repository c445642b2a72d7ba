"""Answers inner product and Euclidean distance with an index that knows only cosines, exactly.

Extra coordinates turn the metric into a cosine (Bachrach et al., "Speeding up the Xbox recommender
system using a Euclidean transformation for inner-product spaces", RecSys 2014; Neyshabur and
Srebro, "On symmetric and asymmetric LSHs for inner product search", ICML 2015). With every stored
length at most M:

- inner product: x' = [x, √(M² − |x|²)], q' = [q, 0]; then q·x = cos · |q| · M
- Euclidean: x' = [x, −|x|²/2a, √(R² − |x|² − |x|⁴/4a²)], q' = [q, a, 0]; then
  d² = |q|² − 2 cos · R · √(|q|² + a²), with R² = M² + M⁴/4a²

Only directions matter to a cosine, so all are sent with length 1: nothing leaves float32's range.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Wide = NDArray[np.float64]
# How much longer than the longest vector seen the next may be before the index is rebuilt.
HEADROOM = 1.1
# A cosine that Redis computes in float32 is off by no more than this.
COSINE_ERROR = 5e-7
# Distances that differ by no more than this are equal.
TIE = 1e-6


class Lift(Protocol):
    """Turns vectors and scores of a metric into those of a cosine index, and back."""

    @property
    def max_norm(self) -> float:
        """Length of the longest vector that can be stored; infinite if any can."""
        ...

    def stored(self, vectors: Array) -> Array:
        """Lift float32 [n, dimensions] to what the index stores, of length 1."""
        ...

    def asked(self, vector: Array) -> Array:
        """Lift a query, float32 [dimensions], to length 1."""
        ...

    def score(self, cosine: float, norm: float) -> tuple[float, float]:
        """Return similarity and distance for a cosine to the lifted query of length ``norm``."""
        ...

    def is_coarse(self, norm: float) -> bool:
        """Say whether cosines in float32 are too coarse for scores good to about 1e-6."""
        ...


@dataclass(frozen=True)
class Cosine:
    """No lift."""

    max_norm: float = math.inf

    def stored(self, vectors: Array) -> Array:
        """Return the vectors at length 1."""
        wide = vectors.astype(np.float64)
        return _float32(wide / np.linalg.norm(wide, axis=1, keepdims=True))

    def asked(self, vector: Array) -> Array:
        """Return the vector at length 1."""
        return _unit(vector.astype(np.float64))

    def score(self, cosine: float, norm: float) -> tuple[float, float]:
        """Return the cosine, and 1 less it."""
        return cosine, 1 - cosine

    def is_coarse(self, norm: float) -> bool:
        """Cosines are what they are."""
        return False


@dataclass(frozen=True)
class InnerProduct:
    """The lift of the inner product."""

    max_norm: float

    def stored(self, vectors: Array) -> Array:
        """Add the coordinate that makes every length ``max_norm``."""
        wide = vectors.astype(np.float64) / self.max_norm
        rest = np.sqrt(np.maximum(1 - (wide**2).sum(1), 0))
        return _float32(np.hstack([wide, rest[:, None]]))

    def asked(self, vector: Array) -> Array:
        """Add a zero; a zero vector becomes the new axis, any direction being as good."""
        return _unit(np.append(vector.astype(np.float64), 0.0 if vector.any() else 1.0))

    def score(self, cosine: float, norm: float) -> tuple[float, float]:
        """Return the inner product and its negative."""
        product = cosine * norm * self.max_norm
        return product, -product

    def is_coarse(self, norm: float) -> bool:
        """The error grows with both lengths."""
        return norm * self.max_norm > 10  # noqa: PLR2004 - times 1e-7


@dataclass(frozen=True)
class Euclidean:
    """The lift of the Euclidean distance; ``scale`` is a, best near the median length."""

    max_norm: float
    scale: float

    @property
    def radius(self) -> float:
        """Length of every lifted vector."""
        return math.sqrt(self.max_norm**2 + self.max_norm**4 / (4 * self.scale**2))

    def stored(self, vectors: Array) -> Array:
        """Add the two coordinates that make every length the radius."""
        wide = vectors.astype(np.float64)
        squares = (wide**2).sum(1)
        tilt = -squares / (2 * self.scale)
        rest = np.sqrt(np.maximum(self.radius**2 - squares - tilt**2, 0))
        return _float32(np.hstack([wide, tilt[:, None], rest[:, None]]) / self.radius)

    def asked(self, vector: Array) -> Array:
        """Add the scale and a zero."""
        return _unit(np.append(vector.astype(np.float64), [self.scale, 0.0]))

    def score(self, cosine: float, norm: float) -> tuple[float, float]:
        """Return 1 / (1 + d) and the distance d."""
        square = norm**2 - 2 * cosine * self.radius * math.hypot(norm, self.scale)
        distance = math.sqrt(max(square, 0.0))
        return 1 / (1 + distance), distance

    def is_coarse(self, norm: float) -> bool:
        """The root of a small difference of squares always is."""
        return True


def lift(metric: str, max_norm: float, scale: float) -> Lift:
    """Return the lift of a metric."""
    if metric == "ip":
        return InnerProduct(max_norm)
    if metric == "l2":
        return Euclidean(max_norm, scale)
    return Cosine()


def lengths(vectors: Array) -> Wide:
    """Return the length of each vector, float32 [n, dimensions]."""
    return np.asarray(np.linalg.norm(vectors.astype(np.float64), axis=1))


def longest(vectors: Array) -> float:
    """Return the length of the longest vector, float32 [n, dimensions]."""
    return float(lengths(vectors).max())


def measure(vectors: Array) -> tuple[float, float]:
    """Return the ``max_norm`` and ``scale`` to lift such vectors with, float32 [n, dimensions]."""
    return measure_lengths(lengths(vectors))


def measure_lengths(norms: Wide) -> tuple[float, float]:
    """Return the ``max_norm`` and ``scale`` to lift vectors of such lengths with."""
    if not norms.size:
        return HEADROOM, 1.0
    most = float(norms.max()) or 1.0
    return HEADROOM * most, float(np.median(norms)) or most


def exact_scores(metric: str, query: Array, stored: Array) -> tuple[Wide, Wide]:
    """Return similarities and distances to float32 [n, dimensions], computed in float64."""
    one, others = query.astype(np.float64), stored.astype(np.float64)
    if metric == "l2":
        distances = np.linalg.norm(others - one, axis=1)
        return 1 / (1 + distances), distances
    products = others @ one
    if metric == "ip":
        return products, -products
    cosines = products / (np.linalg.norm(others, axis=1) * np.linalg.norm(one))
    return cosines, 1 - cosines


def _unit(vector: Wide) -> Array:
    return _float32(vector / math.sqrt(vector @ vector))


def _float32(values: Wide) -> Array:
    return values.astype("<f4")
