"""Decides that nothing here answers a question: by a cosine learnt for a collection and its model.

The probability is a logistic curve over the cosine (Platt, "Probabilistic outputs for support
vector machines", 1999), fitted with both kinds of questions weighing the same.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from services.errors import InvalidArgument
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import Hit
from services.gateway.rag import retrieval
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.types import check_collection
from services.gateway.rag.store import CalibrationStore

LEAST_OF_EACH = 20
QUESTIONS_LIMIT = 10_000
_BATCH = 64
_STEPS = 50
_RIDGE = 1e-5

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """A question of which somebody knows whether the documents answer it."""

    question: str
    answerable: bool


@dataclass(frozen=True)
class Calibration:
    """What was learnt for a collection and a model: from which cosine on questions are answered.

    ``slope`` and ``middle`` are the logistic curve's.
    """

    min_score: float
    slope: float
    middle: float

    def probability(self, score: float) -> float:
        """Return the probability that a passage of this cosine answers, in (0, 1)."""
        return 1 / (1 + math.exp(-self.slope * (score - self.middle)))


@dataclass(frozen=True)
class Measured:
    """A calibration, and the shares it refuses of questions that it has not learnt from."""

    calibration: Calibration
    digest: str
    answerable_refused: float
    unanswerable_refused: float
    questions: int


@dataclass(frozen=True)
class Verdict:
    """Whether a question is refused, by the nearest passage of all; both scores are cosines."""

    refused: bool
    best_score: float
    min_score: float
    relevance: float | None = None


class Abstention:
    """Learns and remembers when to refuse."""

    def __init__(
        self,
        store: CalibrationStore,
        documents: DocumentStore,
        backends: Backends,
        *,
        min_score: float,
    ) -> None:
        self._store = store
        self._documents = documents
        self._backends = backends
        self._min_score = min_score

    async def calibrations(
        self, collections: Sequence[str], digest: str
    ) -> list[Calibration | None]:
        """Return what was learnt for each of these collections and a model."""
        records = await self._store.get(collections, digest)
        return [Calibration(**record) if record else None for record in records]

    def judge(
        self, found: Sequence[Sequence[Hit]], learnt: Sequence[Calibration | None]
    ) -> Verdict:
        """Judge by the collection that comes nearest to answering, or is furthest beyond it."""
        verdicts = [self._verdict(hits, one) for hits, one in zip(found, learnt, strict=True)]
        return max(verdicts, key=lambda one: one.best_score - one.min_score)

    async def calibrate(
        self, collection: str, labelled: Sequence[Labelled], *, dry_run: bool
    ) -> Measured:
        """Learn from one half of labelled questions, measure on the other; keep what was learnt.

        Raises:
            InvalidArgument: too few of a kind, or too many.
            NotFound: there is no such collection.
        """
        _check(collection, labelled)
        scores, digest = await self._scores(collection, [one.question for one in labelled])
        answerable, unanswerable = (
            _halves(
                [
                    score
                    for score, one in zip(scores, labelled, strict=True)
                    if one.answerable is kind
                ]
            )
            for kind in (True, False)
        )
        calibration = fit(answerable[0], unanswerable[0])
        if not dry_run:
            await self._store.put(collection, digest, asdict(calibration))
            await self._documents.advance_epoch(collection)
        return Measured(
            calibration,
            digest,
            float(np.mean(answerable[1] < calibration.min_score)),
            float(np.mean(unanswerable[1] < calibration.min_score)),
            len(answerable[1]) + len(unanswerable[1]),
        )

    def _verdict(self, hits: Sequence[Hit], learnt: Calibration | None) -> Verdict:
        best = retrieval.best_similarity([hits])
        least = learnt.min_score if learnt else self._min_score
        return Verdict(best < least, best, least, learnt.probability(best) if learnt else None)

    async def _scores(self, collection: str, questions: Sequence[str]) -> tuple[list[float], str]:
        """Return the cosine of the nearest chunk to each question, and the model's digest."""
        scores: list[float] = []
        digest = ""
        for first in range(0, len(questions), _BATCH):
            vectors = await self._backends.embedder.embed_queries(questions[first : first + _BATCH])
            digest = vectors.digest
            queries = retrieval.nearest(collection, vectors)
            found = await self._backends.search.search(queries, digest)
            scores += [retrieval.best_similarity([hits]) for hits in found]
        return scores, digest


def fit(answerable: Scores, unanswerable: Scores) -> Calibration:
    """Learn from the cosines of both kinds of questions."""
    slope, middle = _logistic(answerable, unanswerable)
    return Calibration(_least_errors(answerable, unanswerable), slope, middle)


def _least_errors(answerable: Scores, unanswerable: Scores) -> float:
    """Return the cosine that parts the two with the smallest shares of errors.

    Of several such, the one in the middle.
    """
    places = np.unique(np.concatenate([answerable, unanswerable]))
    cuts = (places[1:] + places[:-1]) / 2 if len(places) > 1 else places
    wrong = np.mean(answerable[None] < cuts[:, None], 1) + np.mean(
        unanswerable[None] >= cuts[:, None], 1
    )
    best = np.flatnonzero(np.isclose(wrong, wrong.min()))
    return float(cuts[best[len(best) // 2]])


def _logistic(answerable: Scores, unanswerable: Scores) -> tuple[float, float]:
    """Fit slope and middle by Newton's method, with a little pull towards a slope of nothing."""
    x = np.concatenate([answerable, unanswerable])
    y = np.repeat([1.0, 0.0], [len(answerable), len(unanswerable)])
    weight = np.repeat(
        [0.5 / len(answerable), 0.5 / len(unanswerable)], [len(answerable), len(unanswerable)]
    )
    features = np.stack([x, np.ones_like(x)], 1)
    at = np.zeros(2)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(features @ at, -30, 30)))
        gradient = features.T @ (weight * (p - y)) + _RIDGE * at * (1, 0)
        curvature = (features * (weight * p * (1 - p))[:, None]).T @ features
        at = at - np.linalg.solve(curvature + np.diag([_RIDGE, 1e-9]), gradient)
    slope = max(float(at[0]), 1e-6)
    return slope, -float(at[1]) / slope


def _halves(scores: Sequence[float]) -> tuple[Scores, Scores]:
    """Part scores into a half to learn from and a half to measure by, the same ones each time."""
    mixed = list(scores)
    random.Random(0).shuffle(mixed)  # noqa: S311 - no secret
    return np.array(mixed[::2]), np.array(mixed[1::2])


def _check(collection: str, labelled: Sequence[Labelled]) -> None:
    check_collection(collection)
    positive = sum(one.answerable for one in labelled)
    if min(positive, len(labelled) - positive) < LEAST_OF_EACH:
        raise InvalidArgument(
            "TOO_FEW_QUESTIONS",
            f"Send at least {LEAST_OF_EACH} answerable and {LEAST_OF_EACH} unanswerable questions.",
            field="questions",
        )
    if len(labelled) > QUESTIONS_LIMIT:
        raise InvalidArgument(
            "TOO_MANY_QUESTIONS", f"At most {QUESTIONS_LIMIT} questions.", field="questions"
        )
    for number, one in enumerate(labelled):
        if not one.question.strip():
            raise InvalidArgument(
                "EMPTY_QUESTION", "The question is empty.", field=f"questions[{number}].question"
            )
