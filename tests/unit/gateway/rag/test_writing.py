from dataclasses import replace

import numpy as np
import pytest

from services.gateway.backends.types import Vectors
from services.gateway.cache.types import Decision
from services.gateway.rag.retrieval import QuestionVectors
from services.gateway.rag.timings import Timings
from services.gateway.rag.types import Draft, RefusalDecision
from services.gateway.rag.writing import write_request, write_whole, written_answer
from tests.fakes.rag import QUESTION, FakeWriter, two_documents

DECIDED = RefusalDecision(refused=False, best_score=0.5, min_score=0.4)
VECTORS = Vectors(np.ones((1, 2), np.float32), "m", "digest")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_question_becomes_a_whole_answer(streamed: bool) -> None:
    question = replace(QUESTION, model="large", max_prompt_tokens=100)
    request = write_request(question, QuestionVectors(VECTORS, VECTORS), streamed=streamed)
    assert (request.question, request.model, request.max_prompt_tokens, request.streamed) == (
        (question.text, "large", 100, streamed)
    )
    passages, _, _ = await (await two_documents()).service.retrieve(QUESTION)
    draft = await write_whole(FakeWriter(), request, passages)
    answer = written_answer(draft, Decision("miss"), DECIDED, Timings())
    assert (answer.text, answer.model) == ("It swims [1].", "model")
    assert answer.citations == draft.citations
    assert answer.usage == {"completion_tokens": 5}
    assert answer.refusal is None


def test_an_answer_whose_sentences_were_all_dropped_is_a_refusal() -> None:
    answer = written_answer(Draft("", [], [], withheld=2), Decision("miss"), DECIDED, Timings())
    assert answer.refusal == replace(DECIDED, refused=True, supported=False)
    assert answer.withheld == 2
