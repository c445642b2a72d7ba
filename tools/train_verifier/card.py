"""Measures a verifier on held-out pairs, and writes its card."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.gateway.cache.calibration import served_at
from services.gateway.cache.labelled_pairs import LabelledPair
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import (
    INTERACTION_SCALE,
    Judgement,
    Question,
    Verifier,
)

BOOTSTRAPS = 1000
_CARD = """# The cache's verifier

The verifier estimates how likely two questions ask the same. It adds the scores of boosted trees
over lexical features and of small networks over those features and the questions' vectors by
all-MiniLM-L6-v2. numpy computes it; the file contains no code.

- **Data**: pairs of Quora questions as GPTCache publishes them, split by connected question:
  {train} to train, {calibration} to calibrate and {held_out} held out; and {added} generated
  contradictions and paraphrases to train.
- **Vector model**: digest `{digest}`.
  For vectors of other models only the trees decide.
- **Made by** `memetwin cache train --pairs question_pairs.jsonl --pairs question_pairs_2.jsonl
  --out services/gateway/cache/verifier/weights`.

{tables}
"""


@dataclass
class Table:
    """Pairs as arrays.

    Attributes:
        pairs: the pairs.
        row_of: the row of each question in ``vectors``.
        vectors: unit vectors of all questions, float32 [questions, dimensions].
        features: the trees' input, float32 [pairs, features], once it is computed.
    """

    pairs: Sequence[LabelledPair]
    row_of: dict[str, int]
    vectors: NDArray[np.float32]
    features: NDArray[Any] = field(default_factory=lambda: np.empty((0, 0), np.float32))

    @cached_property
    def one(self) -> NDArray[np.int64]:
        """Rows of the first questions."""
        return np.array([self.row_of[pair.one] for pair in self.pairs])

    @cached_property
    def other(self) -> NDArray[np.int64]:
        """Rows of the second questions."""
        return np.array([self.row_of[pair.other] for pair in self.pairs])

    @cached_property
    def cosines(self) -> NDArray[np.float32]:
        """Cosine similarities of the pairs."""
        cosines: NDArray[np.float32] = (self.vectors[self.one] * self.vectors[self.other]).sum(1)
        return cosines

    @cached_property
    def same(self) -> NDArray[np.float32]:
        """1 for pairs that ask the same, 0 for the others."""
        return np.array([pair.same for pair in self.pairs], np.float32)

    def interactions(self, rows: Any = slice(None)) -> NDArray[np.float32]:
        """Return scaled differences and products of the vectors, float32 [n, 2 * dimensions]."""
        one, other = self.vectors[self.one[rows]], self.vectors[self.other[rows]]
        joined: NDArray[np.float32] = np.concatenate([np.abs(one - other), one * other], 1)
        return joined * INTERACTION_SCALE


def judgements(
    verifier: Verifier, pairs: Sequence[LabelledPair], one: Any, other: Any, digest: str
) -> list[Judgement]:
    """Return the judgement of each pair, whose vectors are rows of ``one`` and ``other``."""
    return [
        verifier.judge(
            Question(LexicalText(pair.one), left, digest),
            Question(LexicalText(pair.other), right, digest),
            float(left @ right),
        )
        for pair, left, right in zip(pairs, one, other, strict=True)
    ]


def recall(scores: NDArray[Any], same: NDArray[Any], precision: float) -> float:
    """Return the largest recall of any bound that reaches this precision."""
    _, served, correct = served_at(scores, same)
    return float(correct[correct >= precision * served].max(initial=0) / max(same.sum(), 1))


def recall_intervals(
    scores: Sequence[NDArray[Any]], same: NDArray[Any], precision: float, seed: int = 1
) -> list[tuple[float, float]]:
    """Return 95 % bootstrap intervals of the recalls of several scores on the same pairs."""
    rng = np.random.default_rng(seed)
    samples = [rng.integers(len(same), size=len(same)) for _ in range(BOOTSTRAPS)]
    recalls = [[recall(score[rows], same[rows], precision) for rows in samples] for score in scores]
    return [tuple(np.quantile(one, [0.025, 0.975])) for one in recalls]


def tables(scores: NDArray[Any], cosines: NDArray[Any], same: NDArray[Any]) -> str:
    """Return Markdown tables of recall at two precisions, beside the cosine's, and calibration."""
    lines = [
        f"{len(same)} held-out pairs, of which {int(same.sum())} ask the same; 95 % intervals by"
        f" {BOOTSTRAPS} bootstraps.",
        "",
        "| recall at precision | verifier | cosine | ratio |",
        "|---|---|---|---|",
    ]
    for precision in (0.9, 0.95):
        ours, theirs = recall(scores, same, precision), recall(cosines, same, precision)
        own, cosine = recall_intervals([scores, cosines], same, precision)
        ratio = f"{ours / theirs:.2f}" if theirs else "–"
        lines.append(
            f"| {precision} | {ours:.3f} [{own[0]:.3f}, {own[1]:.3f}] |"
            f" {theirs:.3f} [{cosine[0]:.3f}, {cosine[1]:.3f}] | {ratio} |"
        )
    return "\n".join([*lines, "", *_calibration_table(scores, same)])


def _calibration_table(scores: NDArray[Any], same: NDArray[Any]) -> list[str]:
    lines = ["| probability | pairs | mean estimate | ask the same |", "|---|---|---|---|"]
    for low in np.arange(0, 1, 0.1):
        rows = (scores >= low) & (scores < low + 0.1)
        if rows.any():
            lines.append(
                f"| {low:.1f} to {low + 0.1:.1f} | {rows.sum()} | {scores[rows].mean():.3f} |"
                f" {same[rows].mean():.3f} |"
            )
    return lines


def card(verifier: Verifier, held_out: Table, digest: str, counts: dict[str, int]) -> str:
    """Return a verifier's card, measured on held-out pairs.

    ``counts`` has the size of each part.
    """
    one, other = held_out.vectors[held_out.one], held_out.vectors[held_out.other]
    judged = judgements(verifier, held_out.pairs, one, other, digest)
    scores = np.array([judgement.probability for judgement in judged])
    measured = tables(scores, held_out.cosines, held_out.same > 0)
    return _CARD.format(digest=digest, tables=measured, **counts)
