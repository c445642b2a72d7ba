"""Finds the loosest bounds that keep a wanted precision, on labelled pairs of a user's own."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.errors import InvalidArgument
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.cache import calibration
from services.gateway.cache.statistics import wilson
from services.gateway.cache.verifier.features import Text
from services.gateway.cache.verifier.model import Side, Verifier

PAIRS = 50_000
BATCH = 256
POINTS = 100
Share = tuple[float, float, float]


@dataclass(frozen=True)
class Pair:
    """Two questions, and whether the answer to one answers the other."""

    one: str
    other: str
    same: bool


@dataclass(frozen=True)
class Calibrated:
    """A bound, and what it does on pairs it was not chosen on.

    Attributes:
        bound: least value to serve at; None if no bound reaches the wanted precision.
        precision: share of the served that are the same, with its interval.
        recall: share of the same that are served, with its interval.
        curve: bounds with their precisions and hit ratios.
    """

    bound: float | None
    precision: Share
    recall: Share
    curve: list[tuple[float, float, float]]


class Calibration:
    """Judges pairs as the cache does, and finds bounds."""

    def __init__(self, embedder: EmbedderClient, verifier: Verifier) -> None:
        self._embedder = embedder
        self._verifier = verifier

    async def find(self, rows: Sequence[Pair], precision: float) -> tuple[Calibrated, Calibrated]:
        """Return the bounds on the cosine and on the probability.

        Raises:
            InvalidArgument: the pairs are too few, too many or of one kind, or no precision is
                wanted.
        """
        parts = calibration.halves(rows)
        _check(rows, parts, precision)
        fit, rest = [await self._judge(part) for part in parts]
        return tuple(  # type: ignore[return-value]
            calibrated((fit[kind], fit[2]), (rest[kind], rest[2]), precision) for kind in (0, 1)
        )

    async def _judge(self, rows: Sequence[Pair]) -> list[NDArray[Any]]:
        """Return cosines, probabilities and labels; what the verifier refuses has neither."""
        texts = calibration.texts(rows)
        blocks = []
        for first in range(0, len(texts), BATCH):
            blocks.append(
                await self._embedder.embed_documents(texts[first : first + BATCH], bulk=True)
            )
        sides = {
            text: Side(Text(text), row, blocks[0].digest)
            for text, row in zip(texts, np.concatenate([one.rows for one in blocks]), strict=True)
        }
        judged = [self._pair(sides[pair.one], sides[pair.other]) for pair in rows]
        cosines, probabilities = np.array(judged).T
        return [cosines, probabilities, np.array([pair.same for pair in rows])]

    def _pair(self, one: Side, other: Side) -> tuple[float, float]:
        assert one.vector is not None and other.vector is not None  # noqa: PT018, S101 - just made
        cosine = float(one.vector @ other.vector)
        probability = self._verifier.probability(one, other, cosine)
        if self._verifier.refuses(one, other, cosine, probability):
            return -2.0, -2.0  # below every bound
        return cosine, probability


def calibrated(
    fit: tuple[NDArray[Any], NDArray[Any]],
    rest: tuple[NDArray[Any], NDArray[Any]],
    precision: float,
) -> Calibrated:
    """Choose a bound on some scores and labels, measure it on others."""
    bound = lowest(*fit, precision)
    scores, same = rest
    served = scores >= (np.inf if bound is None else bound)
    right = int((served & same).sum())
    steps = np.quantile(scores[scores >= -1], np.linspace(0, 1, POINTS))
    curve = [
        (float(step), float(same[scores >= step].mean()), float((scores >= step).mean()))
        for step in np.unique(steps)
    ]
    return Calibrated(
        bound, wilson(right, int(served.sum())), wilson(right, int(same.sum())), curve
    )


def lowest(scores: NDArray[Any], same: NDArray[Any], precision: float) -> float | None:
    """Return the least bound at which this precision is kept, or None."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)  # equal scores fall together
    kept = np.cumsum(same[order]) >= precision * np.arange(1, len(order) + 1)
    good = np.flatnonzero(kept & ends & (scores[order] >= -1))
    return float(scores[order][good[-1]]) if len(good) else None


def _check(rows: Sequence[Pair], parts: Sequence[Sequence[Pair]], precision: float) -> None:
    if not 0 < precision < 1:
        raise InvalidArgument("BAD_PRECISION", "precision lies in (0, 1).", field="precision")
    if len(rows) > PAIRS:
        raise InvalidArgument("TOO_MANY_PAIRS", f"At most {PAIRS} pairs.", field="pairs")
    if any({pair.same for pair in part} != {True, False} for part in parts):
        raise InvalidArgument(
            "TOO_FEW_PAIRS",
            "Send more pairs, of both kinds: one half chooses the bound, the other measures it.",
            field="pairs",
        )


def halves(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Part pairs in two by connected question."""
    parts: tuple[list[Pair], list[Pair]] = ([], [])
    first = first_connected(pairs)
    for pair in pairs:
        parts[hashlib.sha256(first[pair.one].encode()).digest()[0] % 2].append(pair)
    return parts


def texts(pairs: Iterable[Pair]) -> list[str]:
    """Return the distinct questions of pairs, in their order."""
    return list(dict.fromkeys(text for pair in pairs for text in (pair.one, pair.other)))


def first_connected(pairs: Sequence[Pair]) -> dict[str, str]:
    """Map each question to the alphabetically first of those it is connected with."""
    above: dict[str, str] = {}

    def top(text: str) -> str:
        above.setdefault(text, text)
        while above[text] != text:
            above[text] = above[above[text]]
            text = above[text]
        return text

    for pair in pairs:
        one, other = sorted((top(pair.one), top(pair.other)))
        above[other] = one
    return {text: top(text) for text in list(above)}
