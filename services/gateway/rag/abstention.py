"""Decides when to refuse a question because no chunk is near enough to it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from services.errors import InvalidArgument
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import Hit
from services.gateway.rag import retrieval
from services.gateway.rag.calibration import Calibration, fit, halves
from services.gateway.rag.ingest.types import check_collection
from services.gateway.rag.store import CalibrationStore
from services.gateway.rag.types import RefusalDecision
from services.gateway.redis_store import from_record

# Minimum for each label.
MIN_QUESTIONS = 20
MAX_QUESTIONS = 10_000
_BATCH = 64


@dataclass(frozen=True)
class LabelledQuestion:
    """A question, labelled as answered by the documents of a collection or not."""

    question: str
    answerable: bool


@dataclass(frozen=True)
class CalibrationReport:
    """A calibration and its refusal rates on held-out questions.

    Attributes:
        model_digest: digest of the embedding model that the calibration is valid for.
        answerable_refused: share of answerable questions that it refuses.
        unanswerable_refused: share of unanswerable questions that it refuses.
        questions: number of held-out questions.
    """

    calibration: Calibration
    model_digest: str
    answerable_refused: float
    unanswerable_refused: float
    questions: int


class Abstention:
    """Decides on refusals by calibrations. ``min_score`` applies to collections without one."""

    def __init__(
        self,
        store: CalibrationStore,
        backends: Backends,
        *,
        min_score: float,
    ) -> None:
        self._store = store
        self._backends = backends
        self.min_score = min_score

    async def calibrations(
        self, collections: Sequence[str], digest: str
    ) -> list[Calibration | None]:
        """Return the calibration of each collection for the model ``digest``, or None."""
        records = await self._store.get(collections, digest)
        return [from_record(Calibration, record) if record else None for record in records]

    def decide(
        self, hits: Sequence[Sequence[Hit]], calibrations: Sequence[Calibration | None]
    ) -> RefusalDecision:
        """Decide by the collection whose best hit exceeds its minimum the most.

        Args:
            hits: the question's hits in each collection.
            calibrations: the calibration of each collection.
        """
        decisions = [self._decide(*one) for one in zip(hits, calibrations, strict=True)]
        return max(decisions, key=lambda one: one.best_score - one.min_score)

    async def calibrate(
        self, collection: str, questions: Sequence[LabelledQuestion], *, dry_run: bool
    ) -> CalibrationReport:
        """Fit a calibration to half of the questions, and measure it on the other half.

        It is stored unless ``dry_run`` is set.

        Raises:
            InvalidArgument: there are too few questions with a label, or too many questions.
            NotFound: the collection does not exist.
        """
        _check(collection, questions)
        scores, digest = await self._scores(collection, [one.question for one in questions])
        answerable, unanswerable = (
            halves(
                [
                    score
                    for score, one in zip(scores, questions, strict=True)
                    if one.answerable is kind
                ]
            )
            for kind in (True, False)
        )
        calibration = fit(answerable[0], unanswerable[0])
        if not dry_run:
            await self._store.put(collection, digest, asdict(calibration))
        return CalibrationReport(
            calibration,
            digest,
            float(np.mean(answerable[1] < calibration.min_score)),
            float(np.mean(unanswerable[1] < calibration.min_score)),
            len(answerable[1]) + len(unanswerable[1]),
        )

    def _decide(self, hits: Sequence[Hit], calibration: Calibration | None) -> RefusalDecision:
        best = retrieval.best_similarity([hits])
        min_score = calibration.min_score if calibration else self.min_score
        relevance = calibration.probability(best) if calibration else None
        return RefusalDecision(best < min_score, best, min_score, relevance)

    async def _scores(self, collection: str, questions: Sequence[str]) -> tuple[list[float], str]:
        """Return each question's similarity to its nearest chunk, and the model's digest."""
        scores: list[float] = []
        digest = ""
        for first in range(0, len(questions), _BATCH):
            vectors = await self._backends.embedder.embed_queries(questions[first : first + _BATCH])
            digest = vectors.digest
            queries = retrieval.nearest_chunk_queries(collection, vectors)
            results = await self._backends.search.search(queries, digest)
            scores += [retrieval.best_similarity([hits]) for hits in results]
        return scores, digest


def _check(collection: str, questions: Sequence[LabelledQuestion]) -> None:
    check_collection(collection)
    answerable = sum(one.answerable for one in questions)
    if min(answerable, len(questions) - answerable) < MIN_QUESTIONS:
        raise InvalidArgument(
            "TOO_FEW_QUESTIONS",
            f"Send at least {MIN_QUESTIONS} answerable and {MIN_QUESTIONS} unanswerable questions.",
            field="questions",
        )
    if len(questions) > MAX_QUESTIONS:
        raise InvalidArgument(
            "TOO_MANY_QUESTIONS", f"Send at most {MAX_QUESTIONS} questions.", field="questions"
        )
    for number, one in enumerate(questions):
        if not one.question.strip():
            raise InvalidArgument(
                "EMPTY_QUESTION", "The question is empty.", field=f"questions[{number}].question"
            )
