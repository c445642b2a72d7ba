import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from services.errors import Unavailable
from services.gateway.cache.verifier import pair_verifier
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import WEIGHTS, Judgement, Question, Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier

ASKED = "Which food lets a puppy grow well?"
UNSURE = "What should my young dog eat to become big and strong?"
DIGEST = "of the cross-encoder"


@dataclass
class FakeEmbedder:
    score: float = 4.0
    digest: str = DIGEST
    fails: bool = False
    calls: list[list[str]] = field(default_factory=list)

    async def score_pairs(
        self, question: str, others: list[str], model: str, seconds: float
    ) -> tuple[np.ndarray, str]:
        self.calls.append(others)
        if self.fails:
            raise Unavailable("MODEL_LOADING", "Not yet.")
        return np.full(len(others), self.score), self.digest


def fake(score: float = 4.0, digest: str = DIGEST) -> Any:
    return FakeEmbedder(score, digest)


@pytest.fixture
def verifier() -> Verifier:
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        arrays = dict(stored)
    arrays |= {
        "pair_digest": np.array(DIGEST),
        "pair_curve": np.array([0.0, 0.5, 1.0, 0.0, 1.0, 0.0]),
    }
    return Verifier(arrays)


def judge(verifier: PairVerifier, text: str) -> Judgement:
    one, other = Question(LexicalText(ASKED)), Question(LexicalText(text))
    return asyncio.run(verifier.judge(one, other, 0.8))


def test_the_cross_encoder_moves_an_unsure_judgement(verifier: Verifier) -> None:
    first = judge(PairVerifier(verifier, None), UNSURE)
    likely = judge(PairVerifier(verifier, fake(score=4.0)), UNSURE)
    unlikely = judge(PairVerifier(verifier, fake(score=-4.0)), UNSURE)
    assert unlikely.probability < first.probability < likely.probability
    assert unlikely.is_unlikely


def test_sure_judgements_need_no_call(verifier: Verifier) -> None:
    embedder: Any = FakeEmbedder()
    different = judge(
        PairVerifier(verifier, embedder), "Which food does not let a puppy grow well?"
    )
    assert embedder.calls == []
    assert different.contradicts


def test_scores_of_another_model_are_not_used(verifier: Verifier) -> None:
    other = PairVerifier(verifier, fake(digest="of another"))
    assert judge(other, UNSURE) == judge(PairVerifier(verifier, None), UNSURE)


def test_after_a_failure_the_first_stage_judges_for_a_while(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder: Any = FakeEmbedder(fails=True)
    pairs = PairVerifier(verifier, embedder)
    assert judge(pairs, UNSURE) == judge(PairVerifier(verifier, None), UNSURE)
    judge(pairs, UNSURE)
    assert len(embedder.calls) == 1
    monkeypatch.setattr(pair_verifier, "PAUSE", 0.0)
    pairs = PairVerifier(verifier, embedder)
    judge(pairs, UNSURE)
    judge(pairs, UNSURE)
    assert len(embedder.calls) == 3


def test_on_strange_topics_the_cosine_counts_more(verifier: Verifier) -> None:
    with np.load(WEIGHTS, allow_pickle=False) as stored:
        digest, centroids = str(stored["digest"]), stored["centroids"].astype(np.float32)

    def question(vector: np.ndarray) -> Question:
        return Question(LexicalText(ASKED), vector / np.linalg.norm(vector), digest)

    familiar, strange = question(centroids[0]), question(-centroids.sum(0))
    assert verifier.strangeness(familiar, familiar) == 0
    assert verifier.strangeness(familiar, strange) == 1
    assert verifier.strangeness(Question(LexicalText(ASKED)), strange) == 0
    first = Judgement(0.5, contradicts=False, is_unlikely=False)

    def rise(one: Question) -> float:
        low, high = (verifier.refine(first, one, one, cosine, 0.0) for cosine in (0.8, 0.95))
        return high.probability - low.probability

    assert rise(strange) > rise(familiar) == 0


def test_the_cross_encoder_does_not_judge_where_the_first_stage_suffices(
    verifier: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = fake()
    pair = PairVerifier(verifier, embedder)
    one, other = Question(LexicalText(ASKED)), Question(LexicalText(UNSURE))
    first = asyncio.run(PairVerifier(verifier, None).judge(one, other, 0.8))
    asyncio.run(pair.judge(one, other, 0.8, lambda probability: True))
    assert len(embedder.calls) == 1  # the first stage is not sure enough
    monkeypatch.setattr(pair_verifier, "LIKELY", first.probability)
    found = asyncio.run(pair.judge(one, other, 0.8, lambda probability: True))
    assert (found, len(embedder.calls)) == (first, 1)
    asyncio.run(pair.judge(one, other, 0.8, lambda probability: False))
    assert len(embedder.calls) == 2
