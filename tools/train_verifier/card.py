"""Measures a verifier on pairs that were held out, and writes its card."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gateway.cache.calibration import Pair
from services.gateway.cache.verifier.features import Text
from services.gateway.cache.verifier.model import BETWEEN, Side, Verifier

ROUNDS = 1000
_CARD = """# The cache's verifier

Boosted trees over signs on the words of two questions, and small networks over those signs and the
questions' vectors by all-MiniLM-L6-v2, say how likely the two ask the same. numpy computes it; the
file has no code.

- **Data**: pairs of Quora questions as GPTCache publishes them, split by connected question:
  {train} to learn from, {calibration} to calibrate by, {held_out} held out; and {added} opposites
  and paraphrases of our own making to learn from.
- **Model of the vectors**: digest `{digest}`.
  For vectors of other models the trees alone decide.
- **Made by** `memetwin cache train --pairs question_pairs.jsonl --out services/gateway/shipped`.

{measured}
"""


@dataclass
class Table:
    """Pairs as arrays.

    Attributes:
        rows: the pairs.
        places: the row of each question in ``matrix``.
        matrix: unit vectors of all questions, float32 [questions, dimensions].
        signs: what the trees look at, float32 [pairs, signs], once it is known.
    """

    rows: Sequence[Pair]
    places: dict[str, int]
    matrix: NDArray[np.float32]
    signs: NDArray[Any] = field(default_factory=lambda: np.empty((0, 0), np.float32))

    @cached_property
    def one(self) -> NDArray[np.int64]:
        """Rows of the first questions."""
        return np.array([self.places[pair.one] for pair in self.rows])

    @cached_property
    def other(self) -> NDArray[np.int64]:
        """Rows of the second questions."""
        return np.array([self.places[pair.other] for pair in self.rows])

    @cached_property
    def cosines(self) -> NDArray[np.float32]:
        """Cosines of the pairs."""
        cosines: NDArray[np.float32] = (self.matrix[self.one] * self.matrix[self.other]).sum(1)
        return cosines

    @cached_property
    def same(self) -> NDArray[np.float32]:
        """1 where a pair asks the same, else 0."""
        return np.array([pair.same for pair in self.rows], np.float32)

    def between(self, places: Any = slice(None)) -> NDArray[np.float32]:
        """Return differences and products of the vectors, [n, 2 * dimensions]."""
        one, other = self.matrix[self.one[places]], self.matrix[self.other[places]]
        joined: NDArray[np.float32] = np.concatenate([np.abs(one - other), one * other], 1)
        return joined * BETWEEN


def probabilities(
    verifier: Verifier, rows: Sequence[Pair], one: Any, other: Any, digest: str
) -> NDArray[np.float64]:
    """Return the probability of each pair; its vectors are rows of ``one`` and ``other``."""
    return np.array(
        [
            verifier.probability(
                Side(Text(pair.one), left, digest), Side(Text(pair.other), right, digest),
                float(left @ right),
            )
            for pair, left, right in zip(rows, one, other, strict=True)
        ]
    )  # fmt: skip


def recall(scores: NDArray[Any], same: NDArray[Any], precision: float) -> float:
    """Return the largest share of the same that some bound finds at this precision or better."""
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(same[order])
    ends = np.append(np.diff(scores[order]) != 0, True)  # equal scores fall together
    good = (right >= precision * np.arange(1, len(order) + 1)) & ends
    return float(right[good].max(initial=0) / same.sum())


def interval(
    scores: Sequence[NDArray[Any]], same: NDArray[Any], precision: float, seed: int = 1
) -> list[tuple[float, float]]:
    """Return the 95 % bootstrap intervals of the recalls of several scores on the same pairs."""
    dice = np.random.default_rng(seed)
    drawn = [dice.integers(len(same), size=len(same)) for _ in range(ROUNDS)]
    found = [[recall(score[rows], same[rows], precision) for rows in drawn] for score in scores]
    return [tuple(np.quantile(one, [0.025, 0.975])) for one in found]


def measured(score: NDArray[Any], cosine: NDArray[Any], same: NDArray[Any]) -> str:
    """Return tables: recall at two precisions beside the cosine's, and the calibration."""
    lines = [
        f"{len(same)} held-out pairs, {int(same.sum())} of them the same; 95 % intervals by"
        f" {ROUNDS} bootstraps.",
        "",
        "| recall at precision | verifier | cosine | ratio |",
        "|---|---|---|---|",
    ]
    for precision in (0.9, 0.95):
        ours, theirs = recall(score, same, precision), recall(cosine, same, precision)
        (low, high), (least, most) = interval([score, cosine], same, precision)
        ratio = f"{ours / theirs:.2f}" if theirs else "–"
        lines.append(
            f"| {precision} | {ours:.3f} [{low:.3f}, {high:.3f}] |"
            f" {theirs:.3f} [{least:.3f}, {most:.3f}] | {ratio} |"
        )
    lines += ["", "| probability | pairs | mean estimate | the same |", "|---|---|---|---|"]
    for low in np.arange(0, 1, 0.1):
        at = (score >= low) & (score < low + 0.1)
        if at.any():
            lines.append(
                f"| {low:.1f} to {low + 0.1:.1f} | {at.sum()} | {score[at].mean():.3f} |"
                f" {same[at].mean():.3f} |"
            )
    return "\n".join(lines)


def card(verifier: Verifier, measure: Table, digest: str, counts: dict[str, int]) -> str:
    """Return the card of a verifier, measured on the held-out pairs; ``counts`` are of its data."""
    one, other = measure.matrix[measure.one], measure.matrix[measure.other]
    score = probabilities(verifier, measure.rows, one, other, digest)
    table = measured(score, measure.cosines, measure.same > 0)
    return _CARD.format(digest=digest, measured=table, **counts)
