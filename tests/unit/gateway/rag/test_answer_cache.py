import asyncio
from dataclasses import replace
from typing import Any

import pytest

from services.errors import FailedPrecondition, Failure, InvalidArgument, NotFound
from services.gateway.cache.types import Scope
from services.gateway.rag import answer_cache
from services.gateway.rag.answer_cache import AnswerCache
from services.gateway.tenants import DEFAULT_TENANT, Tenant
from tests.fakes.backends import FakeEmbedder
from tests.fakes.rag import QUESTION, Rag, two_documents
from tests.fakes.tenants import C


@pytest.fixture
async def rag() -> Rag:
    return await two_documents()


@pytest.mark.parametrize(
    "change",
    [
        {"limit": 3},
        {"diversity": 0.5},
        {"rerank": True},
        {"model": "named"},
        {"max_prompt_tokens": 9},
        {"grounding": "drop"},
        {"grounding": "off"},
        {"filter_key": b"x"},
        {"history": [("user", "Hello.")]},
    ],
)
async def test_what_changes_the_answer_is_part_of_the_key(rag: Rag, change: dict[str, Any]) -> None:
    await rag.ask()
    assert (await rag.ask(**change)).decision.kind == "miss"


async def test_a_change_of_the_documents_invalidates_answers(rag: Rag) -> None:
    await rag.ask()
    rag.documents.counter[C] += 1
    assert (await rag.ask()).decision.kind == "miss"


async def test_the_cache_is_bypassed_on_request(rag: Rag) -> None:
    await rag.ask(no_store=True)
    assert rag.cache.entries == {}
    await rag.ask()
    assert (await rag.ask(no_cache=True)).decision.kind == "miss"
    assert (await rag.ask(no_cache=True, no_store=True)).decision.kind == "bypass"
    assert len(rag.writer.requests) == 4
    assert rag.usage.kinds == ["miss", "miss", "miss", "bypass"]


async def test_an_incomplete_answer_is_not_cached(rag: Rag) -> None:
    rag.writer.complete = False
    await rag.ask()
    assert rag.cache.entries == {}


async def test_a_failed_cache_write_is_logged(
    rag: Rag, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*words: Any, **options: Any) -> None:
        raise NotFound("GONE", "It is gone.")

    monkeypatch.setattr(rag.cache, "put", fail)
    assert (await rag.ask()).text
    assert [record.message for record in caplog.records] == ["an answer could not be cached"]


async def test_the_writer_is_part_of_the_key(rag: Rag) -> None:
    await rag.ask()
    rag.writer.name = "language model"
    assert (await rag.ask()).decision.kind == "miss"
    assert (await rag.ask()).decision.kind == "exact"


async def test_the_minimum_score_is_part_of_the_key(rag: Rag) -> None:
    await rag.ask()
    stricter = await rag.replica(min_score=0.9).ask(QUESTION)
    assert stricter.refusal


async def test_an_entry_of_another_service_is_not_served(rag: Rag) -> None:
    await rag.ask()
    [(key, entry)] = rag.cache.entries.items()
    rag.cache.entries[key] = replace(entry, detail={})
    assert (await rag.ask()).decision.kind == "miss"


async def test_documents_answer_when_the_cache_fails(rag: Rag) -> None:
    await rag.ask()
    rag.cache.fails = True
    answer = await rag.ask()
    assert (answer.decision.kind, answer.text) == ("miss", "It swims [1].")


async def test_documents_answer_when_the_exact_tier_is_slow(
    rag: Rag, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*words: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(answer_cache, "EXACT_TIMEOUT", 0.01)
    monkeypatch.setattr(rag.cache, "get", hang)
    assert (await rag.ask()).text == "It swims [1]."
    assert len(rag.cache.entries) == 1


async def test_an_exact_hit_needs_no_embedder(rag: Rag, monkeypatch: pytest.MonkeyPatch) -> None:
    await rag.ask()
    monkeypatch.delattr(FakeEmbedder, "embed_queries")
    assert (await rag.ask()).decision.kind == "exact"


@pytest.mark.parametrize("kind", [NotFound, FailedPrecondition, InvalidArgument])
async def test_a_broken_collection_of_the_cache_fails_no_question(
    rag: Rag, kind: type[Failure]
) -> None:
    rag.search.failures = [kind("BROKEN", "The cache's collection is broken.")]
    assert (await rag.ask()).text == "It swims [1]."


async def test_an_answer_under_way_does_not_survive_a_purge(rag: Rag) -> None:
    rag.writer.released.clear()
    asking = asyncio.create_task(rag.ask())
    await rag.under_way()
    rag.cache.purge_counts[QUESTION.scope] = 1
    rag.writer.released.set()
    assert (await asking).text == "It swims [1]."
    assert rag.cache.entries == {}


async def test_a_question_after_a_purge_does_not_join_one_from_before_it(rag: Rag) -> None:
    rag.writer.released.clear()
    asking = asyncio.create_task(rag.service.ask(QUESTION))
    await rag.under_way()
    rag.cache.purge_counts[QUESTION.scope] = 1
    rag.leases.leader = ""  # the leases of this fake have no names
    later = asyncio.create_task(rag.service.ask(QUESTION))
    await rag.under_way()
    rag.writer.released.set()
    assert {(await asking).text, (await later).text} == {"It swims [1]."}
    assert len(rag.writer.requests) == 2


async def test_lookups_are_counted_with_what_they_saved(rag: Rag) -> None:
    scope = Scope(user="ann")
    await rag.ask(scope=scope)
    await rag.ask(scope=scope)
    assert rag.usage.kinds == ["miss", "exact"]
    assert {one for one, _ in rag.usage.events} == {scope}
    entry = rag.usage.events[1][1].entry
    assert entry is not None
    assert entry.usage == {"completion_tokens": 5}
    assert entry.seconds > 0


async def test_a_refused_question_counts_as_a_miss(rag: Rag) -> None:
    await rag.ask(text="Boiling point of tungsten?")
    assert rag.usage.kinds == ["miss"]


async def test_the_owner_of_the_documents_is_part_of_the_key(rag: Rag) -> None:
    """A caller without keys and a key of its tenant may ask in the same scope."""
    await rag.ask()
    cache = AnswerCache(rag.cache, rag.documents, rag.usage)  # type: ignore[arg-type]
    default, owned = [
        await cache.request(replace(QUESTION, tenant=tenant), "author", 0.3)
        for tenant in (DEFAULT_TENANT, Tenant("0a" * 16))
    ]
    assert default.context.parameters["collections"] == '{"c": 0}'
    assert owned.context.fingerprint != default.context.fingerprint
