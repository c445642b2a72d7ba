import asyncio
import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from services.errors import Aborted, FailedPrecondition, NotFound, Unavailable
from services.gateway.backends.types import CollectionSpec, Document, TextReading
from services.gateway.cache.types import Bound
from services.gateway.rag.service import MAX_ATTEMPTS, RagService
from services.gateway.rag.types import Answer, Retrieved
from tests.fakes.backends import DIMENSIONS
from tests.fakes.rag import HERON, OTTER, QUESTION, Rag, two_documents

HISTORY = [("user", "Where does the heron wait?"), ("assistant", "In the otter.")]


@pytest.fixture
async def rag() -> Rag:
    return await two_documents()


async def test_the_best_passages_are_retrieved(rag: Rag) -> None:
    passages, refusal, timings = await rag.service.retrieve(QUESTION)
    assert [one.text for one in passages] == [OTTER, HERON]
    assert (refusal.refused, refusal.best_score) == (False, passages[0].similarity)
    assert timings.total > 0
    limited, _, _ = await rag.service.retrieve(replace(QUESTION, limit=1))
    assert [one.text for one in limited] == [OTTER]


async def test_several_collections_are_searched(rag: Rag) -> None:
    await rag.add("d", swimmer="Where does the lynx swim?")
    passages, _, _ = await rag.service.retrieve(replace(QUESTION, collections=["c", "d"]))
    assert {one.document for one in passages} == {"otter", "heron", "swimmer"}


async def test_the_events_of_an_answer(rag: Rag) -> None:
    events = [event async for event in rag.service.stream(QUESTION, streamed=True)]
    assert isinstance(events[0], Retrieved)
    assert [one.document for one in events[0].passages] == ["otter", "heron"]
    assert events[1:3] == ["It swims ", "[1]."]
    final = events[3]
    assert isinstance(final, Answer)
    assert (final.text, final.model, final.decision.kind) == ("It swims [1].", "model", "miss")
    [request] = rag.writer.requests
    assert (request.question, request.streamed) == (QUESTION.text, True)
    assert (request.vector == (await rag.embedder.embed_queries([QUESTION.text])).rows[0]).all()


async def test_an_answer_is_served_again_from_the_cache(rag: Rag) -> None:
    first = await rag.ask()
    again = await rag.ask()
    assert (first.decision.kind, again.decision.kind) == ("miss", "exact")
    assert (again.text, again.model) == (first.text, first.model)
    assert [asdict(one) for one in again.citations] == [asdict(one) for one in first.citations]
    assert [one.text for one in again.passages] == [one.text for one in first.passages]
    assert len(rag.writer.requests) == 1
    json.dumps(next(iter(rag.cache.entries.values())).detail)  # as the store does


async def ask_again_in_other_words(rag: Rag, **changes: Any) -> Answer:
    """Ask a question and index it, then ask a similar one. The semantic tier answers it."""
    await rag.ask()
    [(key, entry)] = rag.cache.entries.items()
    await rag.search.ensure(CollectionSpec("cache", DIMENSIONS, "digest"))
    row = (await rag.embedder.embed_queries([entry.prompt])).rows[0]
    await rag.search.upsert("cache", [Document(key, row)], "digest")
    answer = await rag.ask(text="Where does the otter swim today?", **changes)
    await asyncio.gather(*rag.shadow_sampler._tasks)
    assert (answer.decision.kind, answer.text) == ("semantic", "It swims [1].")
    return answer


async def test_a_similar_question_is_answered_by_the_semantic_tier(rag: Rag) -> None:
    await ask_again_in_other_words(rag)
    assert len(rag.writer.requests) == 1


async def test_a_sampled_semantic_hit_is_answered_again_recorded_and_stored(rag: Rag) -> None:
    rag.cache.trial = "trial"
    await ask_again_in_other_words(rag)
    assert rag.budget.answers == [("trial", "It swims [1].", 1.0)]
    again = rag.writer.requests[-1]
    assert (again.question, again.streamed) == ("Where does the otter swim today?", False)
    assert len(rag.cache.entries) == 2


async def test_a_hit_that_stores_nothing_still_teaches(rag: Rag) -> None:
    rag.cache.trial = "trial"
    await ask_again_in_other_words(rag, no_store=True)
    assert rag.usage.logged[-2:] == [QUESTION.text, None]
    assert rag.budget.answers
    assert len(rag.cache.entries) == 1


async def test_a_new_answer_that_is_not_whole_teaches_nothing(rag: Rag) -> None:
    await rag.ask()
    rag.cache.trial, rag.writer.complete = "trial", False
    await ask_again_in_other_words(rag)
    assert rag.budget.asked
    assert not rag.budget.answers
    assert len(rag.cache.entries) == 1


async def test_a_question_that_nothing_answers_is_refused(rag: Rag) -> None:
    answer = await rag.ask(text="Boiling point of tungsten?")
    assert answer.refusal is not None
    assert (answer.refusal.refused, answer.text, answer.citations) == (True, "", [])
    assert rag.writer.requests == []
    assert rag.cache.entries == {}


async def test_a_question_that_the_model_does_not_read_is_refused(rag: Rag) -> None:
    rag.embedder.readings[QUESTION.text] = TextReading(readable=False)
    passages, refusal, _ = await rag.service.retrieve(QUESTION)
    assert (refusal.refused, refusal.readable) == (True, False)
    assert passages
    answer = await rag.service.ask(QUESTION)
    assert answer.refusal is not None
    assert (answer.refusal.readable, answer.text) == (False, "")
    assert rag.writer.requests == []


async def test_a_collection_without_a_text_index_is_searched_by_vector(rag: Rag) -> None:
    rag.search.failures = [FailedPrecondition("TEXT_NOT_INDEXED", "No text is indexed.")]
    passages, _, _ = await rag.service.retrieve(QUESTION)
    assert [one.text for one in passages] == [OTTER, HERON]
    rag.search.failures = [FailedPrecondition("MODEL_DIFFERS", "The model differs.")]
    with pytest.raises(FailedPrecondition):
        await rag.service.retrieve(QUESTION)


async def test_an_unknown_collection_is_not_found(rag: Rag) -> None:
    with pytest.raises(NotFound):
        await rag.ask(collections=["unknown"])


async def test_passages_are_reranked_on_request(rag: Rag) -> None:
    plain, _, _ = await rag.service.retrieve(QUESTION)
    reranked, _, timings = await rag.service.retrieve(replace(QUESTION, rerank=True))
    assert [one.score for one in reranked] == [len(one.text) for one in reranked]
    assert {one.text for one in reranked} == {one.text for one in plain}
    assert timings.rerank > 0


async def test_a_follow_up_question_is_searched_with_the_questions_before(rag: Rag) -> None:
    plain, _, _ = await rag.service.retrieve(replace(QUESTION, text="And the otter?"))
    after, _, _ = await rag.service.retrieve(replace(QUESTION, text="And where?", history=HISTORY))
    assert (plain[0].document, after[0].document) == ("otter", "heron")


async def test_a_question_about_something_else_is_found_despite_its_history(rag: Rag) -> None:
    passages, _, _ = await rag.service.retrieve(replace(QUESTION, history=HISTORY))
    assert passages[0].document == "otter"


async def test_a_follow_up_question_is_stored_by_its_context(
    rag: Rag, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[Any] = []
    put = rag.cache.put

    async def watched(request: Any, new: Any, **options: Any) -> None:
        stored.append((request.embedding_text, options["vectors"]))
        await put(request, new, **options)

    monkeypatch.setattr(rag.cache, "put", watched)
    await rag.ask(text="And the otter?", history=HISTORY)
    [(text, vectors)] = stored
    assert text == "Where does the heron wait?\nAnd the otter?"
    assert (vectors.rows == (await rag.embedder.embed_queries([text])).rows).all()


async def test_concurrent_questions_share_one_answer(rag: Rag) -> None:
    rag.writer.released.clear()
    other = rag.replica()
    asking = [asyncio.create_task(one.ask(QUESTION)) for one in (rag.service, other) * 5]
    await rag.shared()
    rag.writer.released.set()
    answers = await asyncio.gather(*asking)
    assert len(rag.writer.requests) == 1
    assert {one.text for one in answers} == {"It swims [1]."}
    assert all(one.citations == answers[0].citations for one in answers)
    assert all(one.passages == answers[0].passages for one in answers)
    assert {one.timings.total > 0 for one in answers} == {True}
    assert rag.usage.kinds == ["miss"] * 10
    assert len(rag.cache.entries) == 1


async def test_followers_of_a_stream_get_the_same_events(rag: Rag) -> None:
    rag.writer.released.clear()
    other = rag.replica()

    async def events(service: RagService) -> list[Any]:
        return [event async for event in service.stream(QUESTION, streamed=True)]

    reading = [asyncio.create_task(events(one)) for one in (rag.service, rag.service, other)]
    await rag.shared()
    rag.writer.released.set()
    for retrieved, *pieces, answer in await asyncio.gather(*reading):
        assert [one.document for one in retrieved.passages] == ["otter", "heron"]
        assert pieces == ["It swims ", "[1]."]
        assert (answer.text, answer.model, answer.decision.kind) == (
            "It swims [1].",
            "model",
            "miss",
        )
        assert answer.usage == {"completion_tokens": 5}
    assert len(rag.writer.requests) == 1


async def test_followers_share_a_refusal_and_a_failure(rag: Rag) -> None:
    other = rag.replica()
    rag.writer.failure = Unavailable("NO_ANSWER", "The model does not answer.")
    rag.writer.released.clear()
    asking = [asyncio.create_task(one.ask(QUESTION)) for one in (rag.service, other)]
    await rag.shared()
    rag.writer.released.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [getattr(one, "reason", one) for one in results] == ["NO_ANSWER"] * 2
    tungsten = replace(QUESTION, text="Boiling point of tungsten?")
    answers = await asyncio.gather(*(one.ask(tungsten) for one in (rag.service, other)))
    assert all(one.refusal and one.refusal.refused for one in answers)


@pytest.mark.parametrize(
    "bounds",
    [
        (Bound(), Bound(min_similarity=0.9)),
        (Bound(min_similarity=0.8), Bound(min_similarity=0.9)),
        (Bound(max_error_rate=0.1), Bound(max_error_rate=0.2)),
    ],
)
async def test_questions_with_different_bounds_share_nothing(
    rag: Rag, bounds: tuple[Bound, Bound]
) -> None:
    rag.writer.released.clear()
    asking = []
    for bound in bounds:
        rag.leases.leader = ""  # the leases of this fake have no names
        asking.append(asyncio.create_task(rag.service.ask(replace(QUESTION, bound=bound))))
        await rag.under_way()
    rag.writer.released.set()
    await asyncio.gather(*asking)
    assert len(rag.writer.requests) == 2


async def test_a_caller_who_leaves_ends_an_answer_that_nobody_shares(rag: Rag) -> None:
    rag.writer.released.clear()
    asking = asyncio.create_task(rag.service.ask(replace(QUESTION, no_store=True)))
    await rag.under_way()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert rag.writer.ended == 1


async def test_a_shared_answer_is_stored_although_its_callers_leave(rag: Rag) -> None:
    rag.writer.released.clear()
    asking = asyncio.create_task(rag.service.ask(QUESTION))
    await rag.under_way()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    rag.writer.released.set()
    await rag.leases.wait_for(lambda: not rag.leases.leader)
    assert len(rag.cache.entries) == 1


async def test_a_question_follows_the_next_leader_when_its_leader_is_lost(rag: Rag) -> None:
    rag.writer.failure = Aborted("LEADER_LOST", "The leader is lost.")
    with pytest.raises(Aborted):
        await rag.ask()
    assert len(rag.writer.requests) == MAX_ATTEMPTS
    with pytest.raises(Aborted):
        [event async for event in rag.service.stream(QUESTION, streamed=True)]
    assert len(rag.writer.requests) == MAX_ATTEMPTS + 1


async def test_closing_ends_the_answers_under_way(rag: Rag) -> None:
    rag.writer.released.clear()
    asking = asyncio.create_task(rag.service.ask(QUESTION))
    await rag.under_way()
    await rag.service.close()
    assert rag.writer.ended == 1
    asking.cancel()
