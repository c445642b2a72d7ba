"""Decides when to refuse a question because the nearest chunks do not answer it."""

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.errors import FailedPrecondition, InvalidArgument
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import Hit, Query, Vectors
from services.gateway.rag import relevance, retrieval
from services.gateway.rag.calibration import Calibration, fit, fit_relevance, halves
from services.gateway.rag.ingest.types import DocumentCollection, check_collection
from services.gateway.rag.store import CalibrationStore
from services.gateway.rag.types import RefusalDecision
from services.gateway.rag.word_match import nearest_with_all_words, sufficient_share
from services.gateway.redis_store import from_record
from services.gateway.tenants import Tenants

# Minimum for each label.
MIN_QUESTIONS = 20
MAX_QUESTIONS = 10_000
# How many questions with each label the features are learnt from, since they need vectors of many
# sentences.
MAX_FEATURES = 500
_BATCH = 64
_LIMIT = relevance.MAX_HITS // retrieval.HITS_PER_PASSAGE

Row = NDArray[np.float32]


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
        tenants: Tenants,
        *,
        min_score: float,
    ) -> None:
        self._store = store
        self._backends = backends
        self._tenants = tenants
        self.min_score = min_score

    async def calibrations(
        self, collections: Sequence[DocumentCollection], digest: str
    ) -> list[Calibration | None]:
        """Return the calibration of each collection for the model ``digest``, or None."""
        records = await self._store.get(collections, digest)
        return [from_record(Calibration, record) if record else None for record in records]

    async def decide(
        self,
        texts: Sequence[str],
        vector: Row,
        hits: Sequence[Sequence[Hit]],
        calibrations: Sequence[Calibration | None],
    ) -> RefusalDecision:
        """Decide by the collection that exceeds its minimum the most.

        Args:
            texts: the question without and with the user's last messages, if there are any.
            vector: the vector that the hits were found by, float32 [dimensions].
            hits: the question's hits in each collection.
            calibrations: the calibration of each collection.
        """
        candidates = {
            (place, text): relevance.Candidate(text, vector, found)
            for place, (found, one) in enumerate(zip(hits, calibrations, strict=True))
            if one and one.weights and found
            for text in texts
        }
        rows = await relevance.embed(list(candidates.values()), self._backends.embedder)
        relevances: dict[int, float] = {}
        for ((place, _), candidate), row in zip(candidates.items(), rows, strict=True):
            calibration = calibrations[place]
            assert calibration is not None  # noqa: S101 - candidates have one
            probability = calibration.relevance(relevance.features(candidate, row))
            relevances[place] = max(probability, relevances.get(place, 0.0))
        decisions = [
            self._decide(found, one, relevances.get(place))
            for place, (found, one) in enumerate(zip(hits, calibrations, strict=True))
        ]
        decision = max(decisions, key=_margin)
        uncalibrated = [one for one, known in zip(hits, calibrations, strict=True) if not known]
        if decision.refused and uncalibrated:
            return await self._by_sentences(decision, texts, vector, uncalibrated)
        return decision

    async def _by_sentences(
        self,
        refusal: RefusalDecision,
        texts: Sequence[str],
        vector: Row,
        hits: Sequence[Sequence[Hit]],
    ) -> RefusalDecision:
        """Keep a refusal unless a sentence with all words of the question is near enough."""
        best = 0.0
        for text in texts:
            minimum = sufficient_share(text) * self.min_score
            for one in hits:
                cosine = await nearest_with_all_words(text, vector, one, self._backends.embedder)
                best = max(best, cosine if cosine >= minimum else 0.0)
        return replace(refusal, refused=False, best_score=best) if best else refusal

    async def calibrate(
        self, name: str, questions: Sequence[LabelledQuestion], *, dry_run: bool
    ) -> CalibrationReport:
        """Fit a calibration to half of the questions, and measure it on the other half.

        ``name`` is a collection of the current call's tenant.

        It is stored unless ``dry_run`` is set.

        Raises:
            InvalidArgument: there are too few questions with a label, or too many questions.
            NotFound: the collection does not exist.
        """
        _check(name, questions)
        collection = DocumentCollection(name, await self._tenants.current([name]))
        rows, digest = await self._features(
            collection, [one.question for one in questions], _sample(questions)
        )
        answerable, unanswerable = (
            halves(
                [row for row, one in zip(rows, questions, strict=True) if one.answerable is kind]
            )
            for kind in (True, False)
        )
        calibration = fit(answerable[0][:, 0], unanswerable[0][:, 0])
        calibration = fit_relevance(
            calibration, *(one[~np.isnan(one[:, -1])] for one in (answerable[0], unanswerable[0]))
        )
        if not dry_run:
            await self._store.put(collection, digest, asdict(calibration))
        refused, rightly = (
            float(np.mean([_refuses(calibration, row) for row in one[1]]))
            for one in (answerable, unanswerable)
        )
        measured = len(answerable[1]) + len(unanswerable[1])
        return CalibrationReport(calibration, digest, refused, rightly, measured)

    def _decide(
        self, hits: Sequence[Hit], calibration: Calibration | None, probability: float | None
    ) -> RefusalDecision:
        best = retrieval.best_similarity([hits])
        if calibration is None:
            return RefusalDecision(best < self.min_score, best, self.min_score)
        if probability is None:
            refused = best < calibration.min_score or bool(calibration.weights)
            return RefusalDecision(
                refused, best, calibration.min_score, calibration.probability(best)
            )
        return RefusalDecision(
            probability < calibration.min_relevance,
            best,
            calibration.min_score,
            probability,
            min_relevance=calibration.min_relevance,
        )

    async def _features(
        self, collection: DocumentCollection, questions: Sequence[str], chosen: Collection[int]
    ) -> tuple[list[relevance.Features], str]:
        """Return the features of each question, and the model's digest.

        Of questions that are not ``chosen``, only the similarity of the nearest chunk is a number.
        """
        found: list[relevance.Features] = []
        digest = ""
        for first in range(0, len(questions), _BATCH):
            texts = questions[first : first + _BATCH]
            vectors = await self._backends.embedder.embed_queries(texts)
            digest = vectors.digest
            hits = await self._hits(collection, texts, vectors)
            candidates = list(map(relevance.Candidate, texts, vectors.rows, hits))
            batch = np.full((len(texts), relevance.FEATURES), np.nan)
            batch[:, 0] = [retrieval.best_similarity([one]) for one in hits]
            whole = [place for place in range(len(texts)) if first + place in chosen]
            rows = await relevance.embed(
                [candidates[place] for place in whole], self._backends.embedder, bulk=True
            )
            for place, row in zip(whole, rows, strict=True):
                batch[place] = relevance.features(candidates[place], row)
                await asyncio.sleep(0)  # other tasks run
            found += list(batch)
        return found, digest

    async def _hits(
        self, collection: DocumentCollection, texts: Sequence[str], vectors: Vectors
    ) -> list[list[Hit]]:
        """Return the hits of each question as ``Ask`` finds them."""

        def queries(*, by_words: bool) -> list[Query]:
            return [
                query
                for row, text in enumerate(texts)
                for query in retrieval.build_queries(
                    [collection], text if by_words else "", vectors.only(row), _LIMIT
                )
            ]

        try:
            return await self._backends.search.search(queries(by_words=True), vectors.digest)
        except (FailedPrecondition, InvalidArgument) as failure:
            if failure.reason != "TEXT_NOT_INDEXED":
                raise
            return await self._backends.search.search(queries(by_words=False), vectors.digest)


def _sample(questions: Sequence[LabelledQuestion]) -> set[int]:
    """Return the labelled of ``MAX_FEATURES`` questions with each label."""
    rng = random.Random(0)  # noqa: S311 - not a secret
    chosen: set[int] = set()
    for kind in (True, False):
        labelled = [place for place, one in enumerate(questions) if one.answerable is kind]
        chosen.update(rng.sample(labelled, min(len(labelled), MAX_FEATURES)))
    return chosen


def _margin(decision: RefusalDecision) -> float:
    """Return by how much a decision exceeds its minimum, negative if it refuses."""
    if decision.min_relevance is not None and decision.relevance is not None:
        return decision.relevance - decision.min_relevance
    return decision.best_score - decision.min_score


def _refuses(calibration: Calibration, row: relevance.Features) -> bool:
    if calibration.weights and not np.isnan(row[-1]):
        return calibration.relevance(row) < calibration.min_relevance
    return bool(row[0] < calibration.min_score)


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
