"""Finds the loosest bounds that reach a precision on a caller's labelled pairs."""

import asyncio
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.errors import InvalidArgument
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.cache.labelled_pairs import LabelledPair, distinct_texts, split_in_halves
from services.gateway.cache.statistics import Proportion, wilson_interval
from services.gateway.cache.types import Context, Request, Scope
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Question, Verifier

MAX_PAIRS = 50_000
MAX_CHARACTERS = 16 * 2**20  # of all questions
EMBED_BATCH = 256
PAIRS_PER_STEP = 256
_PAIRS_READ_AT_ONCE = 64
CURVE_POINTS = 100
_REJECTED = -2.0  # below every bound


def _new_process() -> Executor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


@dataclass(frozen=True)
class CalibratedBound:
    """A bound, and its performance on pairs that it was not chosen on.

    Attributes:
        bound: minimum score to serve at; None if no bound reaches the precision.
        precision: share of the served pairs that ask the same.
        recall: share served of the pairs that ask the same.
        curve: bounds with their precisions and hit ratios.
    """

    bound: float | None
    precision: Proportion
    recall: Proportion
    curve: list[tuple[float, float, float]]


@dataclass(frozen=True)
class _Scores:
    """Scores of pairs, float64 [n], and their labels, bool [n]."""

    similarity: NDArray[Any]
    probability: NDArray[Any]
    same: NDArray[Any]


class PairList:
    """Collects pairs from a stream, up to the limits of a calibration."""

    def __init__(self) -> None:
        self.pairs: list[LabelledPair] = []
        self._characters = 0

    async def extend(self, pairs: Iterable[LabelledPair]) -> None:
        """Append pairs, and let other tasks run in between.

        Raises:
            InvalidArgument: there are too many pairs, or a question is too long.
        """
        for pair in pairs:
            if len(self.pairs) % _PAIRS_READ_AT_ONCE == 0:
                await asyncio.sleep(0)
            self._characters += len(pair.one) + len(pair.other)
            if len(self.pairs) == MAX_PAIRS or self._characters > MAX_CHARACTERS:
                raise InvalidArgument(
                    "TOO_MANY_PAIRS",
                    f"There are too many pairs. Send at most {MAX_PAIRS} pairs with at most"
                    f" {MAX_CHARACTERS} characters in total.",
                    field="pairs",
                )
            for text in (pair.one, pair.other):
                Request(Scope(), Context(), text).validate()
            self.pairs.append(pair)


class Calibration:
    """Scores pairs as the cache does, and finds bounds on the scores.

    The scores take about a millisecond of Python per pair, so another process computes them.
    ``new_executor`` starts it. One calibration is scored at a time.
    """

    def __init__(
        self, embedder: EmbedderClient, new_executor: Callable[[], Executor] = _new_process
    ) -> None:
        self._embedder = embedder
        self._new_executor = new_executor
        self._lock = asyncio.Lock()

    async def calibrate(
        self, pairs: Sequence[LabelledPair], precision: float
    ) -> tuple[CalibratedBound, CalibratedBound]:
        """Return the bounds on the cosine similarity and on the verifier's probability.

        Raises:
            InvalidArgument: there are too few pairs, or only pairs of one label, or the precision
                is out of range.
        """
        halves = await asyncio.to_thread(split_in_halves, pairs)
        _validate(halves, precision)
        async with self._lock:
            executor = self._new_executor()
            try:
                fit, test = [await self._score(half, executor) for half in halves]
            finally:
                executor.shutdown(wait=False, cancel_futures=True)
        return (
            calibrate_bound((fit.similarity, fit.same), (test.similarity, test.same), precision),
            calibrate_bound((fit.probability, fit.same), (test.probability, test.same), precision),
        )

    async def _score(self, pairs: Sequence[LabelledPair], executor: Executor) -> _Scores:
        texts = distinct_texts(pairs)
        row_of = {text: row for row, text in enumerate(texts)}
        batches = [
            await self._embedder.embed_documents(texts[first : first + EMBED_BATCH], bulk=True)
            for first in range(0, len(texts), EMBED_BATCH)
        ]
        rows = np.concatenate([batch.rows for batch in batches])
        distinct = list(dict.fromkeys((pair.one, pair.other) for pair in pairs))
        scores: dict[tuple[str, str], tuple[float, float]] = {}
        for first in range(0, len(distinct), PAIRS_PER_STEP):
            step = distinct[first : first + PAIRS_PER_STEP]
            vectors = rows[[[row_of[one], row_of[other]] for one, other in step]]
            scored = await asyncio.get_running_loop().run_in_executor(
                executor, score_pairs, step, vectors, batches[0].digest
            )
            scores.update(zip(step, scored, strict=True))
        similarity, probability = np.array([scores[pair.one, pair.other] for pair in pairs]).T
        return _Scores(similarity, probability, np.array([pair.same for pair in pairs]))


def score_pairs(
    pairs: Sequence[tuple[str, str]], vectors: NDArray[np.float32], digest: str
) -> list[tuple[float, float]]:
    """Return the cosine similarity and the probability of each pair. Rejected pairs get the lowest.

    Args:
        pairs: pairs of questions.
        vectors: their unit vectors, float32 [pairs, 2, dimensions].
        digest: digest of the model that computed the vectors.
    """
    verifier, scores = Verifier.load(), []
    texts = {text: LexicalText(text) for pair in pairs for text in pair}
    for (one, other), (left, right) in zip(pairs, vectors, strict=True):
        similarity = float(left @ right)
        judgement = verifier.judge(
            Question(texts[one], left, digest), Question(texts[other], right, digest), similarity
        )
        score = (similarity, judgement.probability)
        scores.append((_REJECTED, _REJECTED) if judgement.rejected else score)
    return scores


def calibrate_bound(
    fit: tuple[NDArray[Any], NDArray[Any]],
    test: tuple[NDArray[Any], NDArray[Any]],
    precision: float,
) -> CalibratedBound:
    """Choose a bound on the scores and labels of ``fit``, and measure it on those of ``test``."""
    bound = lowest_bound(*fit, precision)
    scores, same = test
    served = scores >= (np.inf if bound is None else bound)
    correct = int((served & same).sum())
    return CalibratedBound(
        bound,
        wilson_interval(correct, int(served.sum())),
        wilson_interval(correct, int(same.sum())),
        _curve(scores, same),
    )


def _curve(scores: NDArray[Any], same: NDArray[Any]) -> list[tuple[float, float, float]]:
    accepted = scores[scores > _REJECTED]
    if not len(accepted):
        return []
    steps = np.unique(np.quantile(accepted, np.linspace(0, 1, CURVE_POINTS)))
    return [
        (float(step), float(same[scores >= step].mean()), float((scores >= step).mean()))
        for step in steps
    ]


def lowest_bound(scores: NDArray[Any], same: NDArray[Any], precision: float) -> float | None:
    """Return the lowest bound on the scores that reaches the precision, or None."""
    bounds, served, correct = served_at(scores, same)
    reached = np.flatnonzero((correct >= precision * served) & (bounds > _REJECTED))
    return float(bounds[reached[-1]]) if len(reached) else None


def served_at(
    scores: NDArray[Any], same: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the distinct scores in falling order, and how many pairs each would serve as a bound.

    Returns:
        The bounds, how many pairs each serves, and how many of those ask the same.
    """
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    last_of_score = np.append(np.diff(falling) != 0, True)  # a bound serves all equal scores
    served, correct = np.arange(1, len(order) + 1), np.cumsum(same[order])
    return falling[last_of_score], served[last_of_score], correct[last_of_score]


def _validate(halves: Sequence[Sequence[LabelledPair]], precision: float) -> None:
    if not 0 < precision < 1:
        raise InvalidArgument(
            "BAD_PRECISION",
            "precision is out of range. Send a number between 0 and 1, exclusive.",
            field="precision",
        )
    if any({pair.same for pair in half} != {True, False} for half in halves):
        raise InvalidArgument(
            "TOO_FEW_PAIRS",
            "There are too few pairs of one label. Send more of both: one half chooses the bound"
            " and the other measures it.",
            field="pairs",
        )
