from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.errors import InvalidArgument, NotFound
from services.gateway.backends.types import CollectionSpec, Document
from services.gateway.rag import abstention
from services.gateway.rag.abstention import MIN_QUESTIONS, Abstention, LabelledQuestion
from services.gateway.rag.calibration import Calibration
from services.gateway.rag.relevance import FEATURES
from services.gateway.rag.store import CalibrationStore
from services.gateway.rag.types import RefusalDecision
from tests.fakes.backends import DIMENSIONS, fake_backends
from tests.fakes.documents import FakeDocumentStore
from tests.fakes.passages import hit
from tests.fakes.redis import FakeRedis
from tests.fakes.tenants import C, fake_tenants

ANSWERABLE = [LabelledQuestion(f"Where is otter{n}?", True) for n in range(40)]
UNANSWERABLE = [LabelledQuestion(f"What costs thing{n}?", False) for n in range(60)]


class World:
    """Abstention with fakes.

    It refuses below a cosine of 0.4. The documents describe forty otters.
    """

    def __init__(self) -> None:
        redis: Any = FakeRedis()
        both, self.embedder, self.search = fake_backends()
        self.documents = FakeDocumentStore()
        self.abstention = Abstention(
            CalibrationStore(redis, "test:", self.documents), both, fake_tenants(), min_score=0.4
        )

    async def add_otters(self) -> None:
        texts = [f"Here is otter{n}." for n in range(40)]
        rows = (await self.embedder.embed_documents(texts)).rows
        await self.search.ensure(CollectionSpec("documents-c", DIMENSIONS, "digest"))
        documents = [Document(str(n), row) for n, row in enumerate(rows)]
        await self.search.upsert("documents-c", documents, "digest")


@pytest.fixture
async def world() -> World:
    one = World()
    await one.add_otters()
    return one


def hits(*similarities: float) -> list[Any]:
    return [hit("x", similarity=one) for one in similarities]


async def decide(
    world: World, found: list[list[Any]], calibrations: list[Calibration | None], *texts: str
) -> RefusalDecision:
    vector = np.ones(DIMENSIONS, np.float32)
    return await world.abstention.decide(texts or ["Where?"], vector, found, calibrations)


async def test_a_question_is_refused_below_the_minimum(world: World) -> None:
    near = await decide(world, [hits(0.2, 0.4)], [None])
    assert near == RefusalDecision(refused=False, best_score=0.4, min_score=0.4)
    assert (await decide(world, [hits(0.39)], [None])).refused
    assert (await decide(world, [[]], [None])).refused


async def test_a_sentence_with_all_words_counts_by_its_own_cosine(world: World) -> None:
    text = "Fuel is sold here. The fish auction opens at five. A ticket costs eight euros."
    question = "When does the fish auction open?"
    vector = (await world.embedder.embed_queries([question])).rows[0]
    found = [[hit(text, similarity=0.3)], [hit("Rates rose.", similarity=0.35)]]
    decision = await world.abstention.decide([question], vector, found, [None, None])
    assert not decision.refused
    assert decision.best_score >= decision.min_score
    other = "When does the fish market open?"
    decision = await world.abstention.decide([other], vector, found, [None, None])
    assert (decision.refused, decision.best_score) == (True, 0.35)
    calibrated = [Calibration(0.6, 10.0, 0.5), Calibration(0.6, 10.0, 0.5)]
    assert (await world.abstention.decide([question], vector, found, calibrated)).refused


async def test_what_was_calibrated_goes_before_the_setting(world: World) -> None:
    decision = await decide(world, [hits(0.5)], [Calibration(0.6, 10.0, 0.5)])
    assert (decision.refused, decision.min_score) == (True, 0.6)
    assert decision.relevance == pytest.approx(0.5)


async def test_the_collection_decides_that_exceeds_its_minimum_by_most(world: World) -> None:
    strict = Calibration(0.9, 10.0, 0.9)
    decision = await decide(world, [hits(0.8), hits(0.45)], [strict, None])
    assert (decision.refused, decision.best_score) == (False, 0.45)


# Only the share of the question's numbers that the hits lack counts.
BY_NUMBERS = Calibration(
    0.6, 10.0, 0.5, tuple(np.append(-10.0 * (np.arange(FEATURES) == 3), 5.0)), 0.5
)


async def test_features_decide_where_a_calibration_has_weights(world: World) -> None:
    found = [[hit("Otters eat 7 fish.", similarity=0.3)]]
    answered = await decide(world, found, [BY_NUMBERS], "Do otters eat 7 fish?")
    assert (answered.refused, answered.min_relevance) == (False, 0.5)
    assert (await decide(world, found, [BY_NUMBERS], "Do otters eat 9 fish?")).refused
    again = await decide(world, found, [BY_NUMBERS], "And 9?", "Do otters eat 7 fish?")
    assert not again.refused
    assert (await decide(world, [[]], [BY_NUMBERS])).refused


async def test_a_calibration_separates_both_kinds_and_is_used(world: World) -> None:
    report = await world.abstention.calibrate("c", [*ANSWERABLE, *UNANSWERABLE], dry_run=False)
    assert (report.answerable_refused, report.unanswerable_refused) == (0, 1)
    assert (report.questions, report.model_digest) == (50, "digest")
    [calibration] = await world.abstention.calibrations([C], "digest")
    assert calibration is not None
    assert replace(calibration, weights=tuple(calibration.weights)) == report.calibration
    assert await world.abstention.calibrations([C], "other") == [None]
    assert await world.documents.epochs([C]) == [1]


async def test_the_features_of_some_questions_with_each_label_are_learnt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abstention, "MAX_FEATURES", 20)
    few = [*ANSWERABLE, *UNANSWERABLE[:MIN_QUESTIONS]]
    for questions in (few, [*ANSWERABLE, *UNANSWERABLE * 9]):
        report = await world.abstention.calibrate("c", questions, dry_run=True)
        assert (report.answerable_refused, report.unanswerable_refused) == (0, 1)


async def test_a_dry_run_changes_nothing(world: World) -> None:
    await world.abstention.calibrate("c", [*ANSWERABLE, *UNANSWERABLE], dry_run=True)
    assert await world.abstention.calibrations([C], "digest") == [None]
    assert await world.documents.epochs([C]) == [0]


@pytest.mark.parametrize(
    ("questions", "reason"),
    [
        ([*ANSWERABLE, *UNANSWERABLE[: MIN_QUESTIONS - 1]], "TOO_FEW_QUESTIONS"),
        (UNANSWERABLE, "TOO_FEW_QUESTIONS"),
        (ANSWERABLE * 200 + UNANSWERABLE * 100, "TOO_MANY_QUESTIONS"),
        ([*ANSWERABLE, *UNANSWERABLE, LabelledQuestion(" ", True)], "EMPTY_QUESTION"),
    ],
)
async def test_questions_are_checked(
    world: World, questions: Sequence[LabelledQuestion], reason: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await world.abstention.calibrate("c", questions, dry_run=True)
    assert caught.value.reason == reason


async def test_an_unknown_collection_cannot_be_calibrated(world: World) -> None:
    with pytest.raises(NotFound):
        await world.abstention.calibrate("d", [*ANSWERABLE, *UNANSWERABLE], dry_run=True)
