"""Computes inner products and Euclidean distances exactly with an index that has only cosines.

Additional coordinates turn each metric into a cosine (Bachrach et al., "Speeding up the Xbox
recommender system using a Euclidean transformation for inner-product spaces", RecSys 2014;
Neyshabur and Srebro, "On symmetric and asymmetric LSHs for inner product search", ICML 2015).
With the norm of every stored vector at most M:

- inner product: x' = [x, √(M² − |x|²)], q' = [q, 0]; then q·x = cos · |q| · M
- Euclidean: x' = [x, −|x|²/2a, √(R² − |x|² − |x|⁴/4a²)], q' = [q, a, 0]; then
  d² = |q|² − 2 cos · R · √(|q|² + a²), with R² = M² + M⁴/4a²

A cosine depends on directions only, so all transformed vectors have norm 1, which keeps every
number within the range of float32.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
# The largest norm that an index can store, relative to the largest norm seen so far. A vector with
# a larger norm causes a reindex.
HEADROOM = 1.1
# Upper bound of the error of a cosine that Redis computes in float32.
MAX_COSINE_ERROR = 5e-7
# Distances that differ by no more than this count as equal.
DISTANCE_TOLERANCE = 1e-6
# Beyond this product of norms, an inner product from a float32 cosine is off by more than 1e-6.
_MAX_PRECISE_PRODUCT = 10


class MetricTransform(Protocol):
    """Turns vectors of a metric into those of a cosine index, and cosines back into scores."""

    @property
    def max_norm(self) -> float:
        """Largest norm of a vector that the transform accepts; infinity if any."""
        ...

    def transform(self, vectors: Float32Array) -> Float32Array:
        """Transform documents' vectors, float32 [n, dimensions], to the index's unit vectors."""
        ...

    def transform_query(self, vector: Float32Array) -> Float32Array:
        """Transform a query's vector, float32 [dimensions], to a unit vector."""
        ...

    def inverse(self, cosine: float, query_norm: float) -> tuple[float, float]:
        """Return the similarity and the distance that a cosine stands for."""
        ...

    def needs_rescoring(self, query_norm: float) -> bool:
        """Return whether float32 cosines are too imprecise for scores within about 1e-6."""
        ...


@dataclass(frozen=True)
class CosineTransform:
    """Only normalises vectors."""

    max_norm: float = math.inf

    def transform(self, vectors: Float32Array) -> Float32Array:
        """Return the vectors with norm 1."""
        wide = vectors.astype(np.float64)
        return _to_float32(wide / np.linalg.norm(wide, axis=1, keepdims=True))

    def transform_query(self, vector: Float32Array) -> Float32Array:
        """Return the vector with norm 1."""
        return _unit(vector.astype(np.float64))

    def inverse(self, cosine: float, query_norm: float) -> tuple[float, float]:
        """Return the cosine, and 1 minus the cosine."""
        return cosine, 1 - cosine

    def needs_rescoring(self, query_norm: float) -> bool:
        """Return False: the cosine is the score."""
        return False


@dataclass(frozen=True)
class InnerProductTransform:
    """The transform of the inner product."""

    max_norm: float

    def transform(self, vectors: Float32Array) -> Float32Array:
        """Add the coordinate that gives every vector the same norm."""
        wide = vectors.astype(np.float64) / self.max_norm
        rest = np.sqrt(np.maximum(1 - (wide**2).sum(1), 0))
        return _to_float32(np.hstack([wide, rest[:, None]]))

    def transform_query(self, vector: Float32Array) -> Float32Array:
        """Add a zero. A zero vector becomes the new axis, because every direction scores 0."""
        return _unit(np.append(vector.astype(np.float64), 0.0 if vector.any() else 1.0))

    def inverse(self, cosine: float, query_norm: float) -> tuple[float, float]:
        """Return the inner product and its negative."""
        product = cosine * query_norm * self.max_norm
        return product, -product

    def needs_rescoring(self, query_norm: float) -> bool:
        """Return True for large norms: the error grows with both."""
        return query_norm * self.max_norm > _MAX_PRECISE_PRODUCT


@dataclass(frozen=True)
class EuclideanTransform:
    """The transform of the Euclidean distance; ``scale`` is a, best near the median norm."""

    max_norm: float
    scale: float

    @property
    def radius(self) -> float:
        """R, the norm of every transformed vector before normalisation."""
        return math.sqrt(self.max_norm**2 + self.max_norm**4 / (4 * self.scale**2))

    def transform(self, vectors: Float32Array) -> Float32Array:
        """Add the two coordinates that give every vector the same norm."""
        wide = vectors.astype(np.float64)
        squares = (wide**2).sum(1)
        tilt = -squares / (2 * self.scale)
        rest = np.sqrt(np.maximum(self.radius**2 - squares - tilt**2, 0))
        return _to_float32(np.hstack([wide, tilt[:, None], rest[:, None]]) / self.radius)

    def transform_query(self, vector: Float32Array) -> Float32Array:
        """Add the scale and a zero."""
        return _unit(np.append(vector.astype(np.float64), [self.scale, 0.0]))

    def inverse(self, cosine: float, query_norm: float) -> tuple[float, float]:
        """Return 1 / (1 + d) and the distance d."""
        square = query_norm**2 - 2 * cosine * self.radius * math.hypot(query_norm, self.scale)
        distance = math.sqrt(max(square, 0.0))
        return 1 / (1 + distance), distance

    def needs_rescoring(self, query_norm: float) -> bool:
        """Return True, because the root of a small difference of squares is never precise."""
        return True


def metric_transform(metric: str, max_norm: float, scale: float) -> MetricTransform:
    """Return the transform of a metric, with the parameters that ``fit`` returns."""
    if metric == "ip":
        return InnerProductTransform(max_norm)
    if metric == "l2":
        return EuclideanTransform(max_norm, scale)
    return CosineTransform()


def norms(vectors: Float32Array) -> Float64Array:
    """Return the norm of each vector, float32 [n, dimensions]."""
    return np.asarray(np.linalg.norm(vectors.astype(np.float64), axis=1))


def largest_norm(vectors: Float32Array) -> float:
    """Return the largest norm of the vectors, float32 [n, dimensions] with n > 0."""
    return float(norms(vectors).max())


def fit(vector_norms: Float64Array) -> tuple[float, float]:
    """Return the ``max_norm`` and ``scale`` of a transform for vectors of these norms, [n]."""
    if not vector_norms.size:
        return HEADROOM, 1.0
    largest = float(vector_norms.max()) or 1.0
    return HEADROOM * largest, float(np.median(vector_norms)) or largest


def exact_scores(
    metric: str, query: Float32Array, vectors: Float32Array
) -> tuple[Float64Array, Float64Array]:
    """Return similarities and distances of a query to float32 [n, dimensions], in float64."""
    one, others = query.astype(np.float64), vectors.astype(np.float64)
    if metric == "l2":
        distances = np.linalg.norm(others - one, axis=1)
        return 1 / (1 + distances), distances
    products = others @ one
    if metric == "ip":
        return products, -products
    cosines = products / (np.linalg.norm(others, axis=1) * np.linalg.norm(one))
    return cosines, 1 - cosines


def with_tolerance(distance: float) -> float:
    """Return the largest distance that counts as equal to this one."""
    return distance + DISTANCE_TOLERANCE * max(1.0, abs(distance))


def _unit(vector: Float64Array) -> Float32Array:
    return _to_float32(vector / math.sqrt(vector @ vector))


def _to_float32(values: Float64Array) -> Float32Array:
    return values.astype("<f4")
