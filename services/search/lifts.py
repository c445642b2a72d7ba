"""Answers inner product and Euclidean distance with an index that knows only cosines, exactly.

Extra coordinates turn the metric into a cosine (Bachrach et al., "Speeding up the Xbox recommender
system using a Euclidean transformation for inner-product spaces", RecSys 2014; Neyshabur and
Srebro, "On symmetric and asymmetric LSHs for inner product search", ICML 2015). With every stored
length at most M:

- inner product: x' = [x, √(M² − |x|²)], q' = [q, 0]; then q·x = cos · |q| · M
- Euclidean: x' = [x, −|x|²/2a, √(R² − |x|² − |x|⁴/4a²)], q' = [q, a, 0]; then
  d² = |q|² − 2 cos · R · √(|q|² + a²), with R² = M² + M⁴/4a²
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
# How much longer than the longest vector seen the next may be before the index is rebuilt.
HEADROOM = 1.25


class Lift(Protocol):
    """Turns vectors and scores of a metric into those of a cosine index, and back."""

    @property
    def max_norm(self) -> float:
        """Length of the longest vector that can be stored; infinite if any can."""
        ...

    def stored(self, vectors: Array) -> Array:
        """Lift float32 [n, dimensions] to what the index stores."""
        ...

    def asked(self, vector: Array) -> Array:
        """Lift a query, float32 [dimensions]."""
        ...

    def score(self, cosine: float, vector: Array) -> tuple[float, float]:
        """Return similarity and distance for a cosine to the lifted query."""
        ...


@dataclass(frozen=True)
class Cosine:
    """No lift."""

    max_norm: float = math.inf

    def stored(self, vectors: Array) -> Array:
        """Return the vectors as they are."""
        return vectors

    def asked(self, vector: Array) -> Array:
        """Return the vector as it is."""
        return vector

    def score(self, cosine: float, vector: Array) -> tuple[float, float]:
        """Return the cosine, and 1 less it."""
        return cosine, 1 - cosine


@dataclass(frozen=True)
class InnerProduct:
    """The lift of the inner product."""

    max_norm: float

    def stored(self, vectors: Array) -> Array:
        """Add the coordinate that makes every length ``max_norm``."""
        wide = vectors.astype(np.float64)
        rest = np.sqrt(np.maximum(self.max_norm**2 - (wide**2).sum(1), 0))
        return np.hstack([wide, rest[:, None]]).astype(np.float32)

    def asked(self, vector: Array) -> Array:
        """Add a zero."""
        return np.append(vector, np.float32(0))

    def score(self, cosine: float, vector: Array) -> tuple[float, float]:
        """Return the inner product and its negative."""
        product = cosine * _norm(vector) * self.max_norm
        return product, -product


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
        return np.hstack([wide, tilt[:, None], rest[:, None]]).astype(np.float32)

    def asked(self, vector: Array) -> Array:
        """Add the scale and a zero."""
        return np.append(vector, np.array([self.scale, 0], np.float32))

    def score(self, cosine: float, vector: Array) -> tuple[float, float]:
        """Return 1 / (1 + d) and the distance d, as exactly as float32 cosines allow."""
        norm = _norm(vector)
        square = norm**2 - 2 * cosine * self.radius * math.hypot(norm, self.scale)
        return _euclidean(math.sqrt(max(square, 0.0)))


def lift(metric: str, max_norm: float, scale: float) -> Lift:
    """Return the lift of a metric."""
    if metric == "ip":
        return InnerProduct(max_norm)
    if metric == "l2":
        return Euclidean(max_norm, scale)
    return Cosine()


def measure(vectors: Array) -> tuple[float, float]:
    """Return the ``max_norm`` and ``scale`` to lift such vectors with, float32 [n, dimensions]."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    longest = float(norms.max()) or 1.0
    return HEADROOM * longest, float(np.median(norms)) or longest


def exact_score(metric: str, query: Array, stored: Array) -> tuple[float, float]:
    """Return similarity and distance of two vectors, computed in float64."""
    one, other = query.astype(np.float64), stored.astype(np.float64)
    if metric == "l2":
        return _euclidean(float(np.linalg.norm(one - other)))
    product = float(one @ other)
    if metric == "ip":
        return product, -product
    cosine = product / (float(np.linalg.norm(one)) * float(np.linalg.norm(other)))
    return cosine, 1 - cosine


def _norm(vector: Array) -> float:
    return float(np.linalg.norm(vector.astype(np.float64)))


def _euclidean(distance: float) -> tuple[float, float]:
    return 1 / (1 + distance), distance
