import asyncio
import dataclasses
import time
from typing import Any

import pytest

from services.errors import FailedPrecondition, InvalidArgument, Unavailable
from services.gateway.cache.types import Bound, Decision
from services.gateway.chat import fail_open, service
from services.gateway.chat.types import CacheControls
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.types import Json, delta_text
from tests.fakes.chat import Chat
from tests.fakes.language_model import USAGE


def pieces(chunks: list[Json]) -> list[str]:
    return [piece for piece in map(delta_text, chunks) if piece]


async def leave(task: asyncio.Task[Any]) -> None:
    """Cancel the call of a caller, and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_answer_is_generated_once_and_then_served() -> None:
    chat = Chat()
    assert await chat.ask() == ("miss", "An answer.")
    await chat.has_stored()
    assert await chat.ask() == ("exact", "An answer.")
    assert len(chat.model.requests) == 1
    assert chat.usage.kinds == ["miss", "exact"]
    assert len(chat.sampler.hits) == 1


async def test_a_stream_is_stored_and_replayed_in_its_pieces() -> None:
    chat = Chat("One ", "two ", "three.")
    kind, fresh = await chat.stream()
    assert (kind, pieces(fresh)) == ("miss", ["One ", "two ", "three."])
    assert all(chunk["choices"] for chunk in fresh)
    await chat.has_stored()
    kind, replayed = await chat.stream(stream_options={"include_usage": True})
    assert (kind, pieces(replayed)) == ("exact", pieces(fresh))
    assert replayed[-1]["usage"] == USAGE
    assert await chat.ask() == ("exact", "One two three.")


async def test_a_replay_equals_the_first_stream() -> None:
    chat = Chat("One ", "two.")
    chat.model.delta = {"refusal": None, "reasoning_content": "Well."}
    for options in {}, {"stream_options": {"include_usage": True}}:
        _, fresh = await chat.stream(f"Hi {options}?", **options)
        await chat.has_stored()
        chat.cache.stored.clear()
        kind, again = await chat.stream(f"Hi {options}?", **options)
        assert (kind, again) == ("exact", fresh)
        completion = await (await chat.start(f"Hi {options}?")).completion()
        assert completion["choices"][0]["message"]["reasoning_content"] == "Well." * 2


async def test_the_headers_of_the_language_model_server_are_passed_on_a_miss() -> None:
    chat = Chat()
    chat.model.headers = {"x-request-id": "r1", "server": "x"}
    for options in {}, {"stream": True}, {"n": 2}:
        answer = await chat.start(f"Hi {options}?", **options)
        received = [item["headers"] async for item in answer.items if item.get("headers")]
        assert received == [{"x-request-id": "r1"}]
    await chat.leases.wait_for(lambda: not chat.leases.leader)
    hit = await chat.start("Hi {}?")
    await hit.completion()
    assert (hit.decision.kind, hit.headers) == ("exact", {})


async def test_a_whole_answer_is_streamed_in_one_piece() -> None:
    chat = Chat("One ", "two.")
    await chat.ask()
    await chat.has_stored()
    kind, chunks = await chat.stream()
    assert (kind, pieces(chunks)) == ("exact", ["One two."])


async def test_the_configured_model_is_part_of_the_request() -> None:
    chat = Chat()
    await chat.ask()
    await chat.has_stored()
    assert chat.model.requests[0]["model"] == "m"
    assert (await chat.ask(model="m"))[0] == "exact"
    assert (await chat.ask(model="other"))[0] == "miss"


@pytest.mark.parametrize(
    "options", [{"n": 2}, {"controls": {"no_cache": True, "no_store": True}}, {"tools": [{}]}]
)
async def test_a_bypass_calls_the_model_each_time(options: dict[str, Any]) -> None:
    chat = Chat()
    for _ in range(2):
        assert (await chat.ask(**options))[0] == "bypass"
    assert len(chat.model.requests) == 2
    assert not chat.cache.entries


async def test_no_store_stores_nothing() -> None:
    chat = Chat()
    for _ in range(2):
        assert (await chat.ask(controls={"no_store": True}))[0] == "miss"
    assert not chat.cache.entries
    assert chat.usage.logged == [None, None]
    await chat.ask()
    assert chat.usage.logged[2]


async def test_no_cache_replaces_the_stored_answer() -> None:
    chat = Chat()
    await chat.ask()
    await chat.has_stored()
    chat.cache.stored.clear()
    chat.model.pieces = ("Another.",)
    assert await chat.ask(controls={"no_cache": True}) == ("miss", "Another.")
    await chat.has_stored()
    assert await chat.ask() == ("exact", "Another.")


async def test_concurrent_equal_requests_of_all_replicas_make_one_call() -> None:
    chat = Chat()
    chat.model.go.clear()
    replicas = [chat.service, chat.replica(), chat.replica()]
    tasks: list[asyncio.Task[Any]] = []
    for replica in replicas:
        tasks += [asyncio.create_task(chat.ask(replica=replica)) for _ in range(3)]
        tasks += [asyncio.create_task(chat.stream(replica=replica)) for _ in range(2)]
    await chat.leases.wait_for(lambda: chat.leases.waiting == 2)
    chat.model.go.set()
    answers = [answer for _, answer in await asyncio.gather(*tasks)]
    texts = {one if isinstance(one, str) else "".join(pieces(one)) for one in answers}
    assert texts == {"An answer."}
    assert len(chat.model.requests) == 1


async def test_a_caller_that_leaves_does_not_end_the_call_of_others() -> None:
    chat = Chat()
    chat.model.go.clear()
    leaving = asyncio.create_task(chat.stream())
    await chat.model.received.wait()
    await leave(leaving)
    staying = asyncio.create_task(chat.ask())
    chat.model.go.set()
    assert (await staying)[1] == "An answer."
    assert len(chat.model.requests) == 1


async def test_a_purge_keeps_an_answer_under_way_out_of_the_cache() -> None:
    chat = Chat()
    chat.model.go.clear()
    task = asyncio.create_task(chat.ask())
    await chat.model.received.wait()
    chat.cache.purge_counts[CacheControls().scope] = 1
    chat.model.go.set()
    assert (await task)[1] == "An answer."
    await chat.has_stored()
    assert not chat.cache.entries


async def test_a_stale_answer_is_served_while_a_new_one_is_generated() -> None:
    chat = Chat()
    await chat.ask()
    await chat.has_stored()
    [(key, fresh)] = chat.cache.entries.items()
    stale = dataclasses.replace(fresh, ttl=1.0, created_at=time.time() - 10)
    decision = (await chat.start()).decision
    chat.cache.next_decision = dataclasses.replace(decision, entry=stale)
    chat.cache.entries.clear()
    chat.cache.stored.clear()
    chat.model.pieces = ("Another.",)
    hits = len(chat.sampler.hits)
    assert await chat.ask() == ("exact", "An answer.")
    await chat.has_stored()
    assert chat.cache.entries[key].response == "Another."
    assert len(chat.sampler.hits) == hits


async def test_a_curated_answer_is_served_as_a_completion_of_the_requested_model() -> None:
    chat = Chat()
    await chat.ask()
    await chat.has_stored()
    [stored] = chat.cache.entries.values()
    curated = dataclasses.replace(stored, id="curated-e", response="As written.", detail={})
    for _ in range(2):
        chat.cache.next_decision = Decision("exact", curated)
        answer = await chat.start(model="other")
        completion = await answer.completion()
        assert (answer.decision.kind, completion["model"]) == ("exact", "other")
        assert completion["choices"][0]["message"]["content"] == "As written."
    chat.cache.next_decision = Decision("exact", curated)
    assert pieces((await chat.stream())[1]) == ["As written."]
    assert len(chat.model.requests) == 1


async def test_without_a_cache_the_model_answers() -> None:
    chat = Chat()
    chat.cache.fails = True
    assert await chat.ask() == ("bypass", "An answer.")
    kind, chunks = await chat.stream()
    assert (kind, pieces(chunks)) == ("bypass", ["An ", "answer."])


async def test_what_is_not_cacheable_is_not_stored() -> None:
    chat = Chat()
    chat.model.choice = {"finish_reason": "length"}
    for _ in range(2):
        assert (await chat.ask())[0] == "miss"
        await chat.leases.wait_for(lambda: not chat.leases.leader)
    assert not chat.cache.entries


async def test_a_request_without_messages_is_refused() -> None:
    chat = Chat()
    with pytest.raises(InvalidArgument):
        await chat.service.complete({"messages": []}, CacheControls())


async def test_without_a_language_model_every_request_is_refused() -> None:
    chat = Chat(client=LanguageModelClient("", "", ""))
    with pytest.raises(FailedPrecondition):
        await chat.ask()


async def test_a_semantic_hit_is_shared_and_calls_no_model() -> None:
    chat = Chat()
    await chat.ask("How do I turn on dark mode?")
    await chat.has_stored()
    [stored] = chat.cache.entries.values()
    chat.cache.next_semantic = Decision("semantic", stored, 0.98, 0.99)
    tasks = [asyncio.create_task(chat.ask("Dark mode?")) for _ in range(5)]
    assert await asyncio.gather(*tasks) == [("semantic", "An answer.")] * 5
    assert len(chat.model.requests) == 1
    assert chat.cache.embeds == 2
    assert chat.sampler.hits == [stored.id]
    assert chat.usage.kinds == ["miss", *["semantic"] * 5]


@pytest.mark.parametrize("how", ["hangs", "semantic_fails"])
async def test_without_a_semantic_tier_answers_are_shared_and_stored(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fail_open, "SEMANTIC_TIMEOUT", 0.01)
    monkeypatch.setattr(fail_open, "STORE_TIMEOUT", 0.01)
    chat = Chat()
    setattr(chat.cache, how, True)
    chat.model.go.clear()
    replicas = [chat.service, chat.replica(), chat.replica()]
    tasks = [asyncio.create_task(chat.ask(replica=replicas[n % 3])) for n in range(20)]
    await chat.leases.wait_for(lambda: chat.leases.waiting == 2)
    chat.model.go.set()
    assert await asyncio.gather(*tasks) == [("miss", "An answer.")] * 20
    assert len(chat.model.requests) == 1
    await chat.has_stored()
    assert await chat.ask() == ("exact", "An answer.")


async def test_without_redis_equal_requests_of_a_replica_still_share_a_call() -> None:
    chat = Chat()
    chat.cache.fails = chat.leases.is_unreachable = True
    chat.model.go.clear()
    tasks = [asyncio.create_task(chat.ask()) for _ in range(20)]
    await chat.model.received.wait()
    chat.model.go.set()
    assert await asyncio.gather(*tasks) == [("bypass", "An answer.")] * 20
    assert len(chat.model.requests) == 1
    assert (chat.cache.embeds, chat.leases.waiting) == (0, 0)


async def test_without_redis_a_call_ends_with_its_last_caller() -> None:
    chat = Chat()
    chat.cache.fails = chat.leases.is_unreachable = True
    chat.model.go.clear()
    first, last = asyncio.create_task(chat.ask()), asyncio.create_task(chat.stream())
    await chat.model.received.wait()
    await leave(first)
    assert not chat.model.ended.is_set()
    await leave(last)
    async with asyncio.timeout(10):
        await chat.model.ended.wait()
    chat.model.go.set()
    assert await chat.ask() == ("bypass", "An answer.")


@pytest.mark.parametrize("controls", [{}, {"no_cache": True}])
async def test_a_call_whose_answer_cannot_be_stored_ends_with_its_last_caller(
    controls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*words: Any) -> int:
        raise Unavailable("REDIS_UNAVAILABLE", "Redis does not answer.")

    chat = Chat()
    monkeypatch.setattr(chat.cache, "purge_count", fail)  # Redis fails after the lookup
    chat.model.go.clear()
    leaving = asyncio.create_task(chat.ask(controls=controls))
    await chat.model.received.wait()
    await leave(leaving)
    async with asyncio.timeout(10):
        await chat.model.ended.wait()
    assert (chat.leases.batches, chat.leases.leader) == ([], "")


async def test_requests_with_different_bounds_share_a_call_of_the_model() -> None:
    chat = Chat()
    chat.model.go.clear()
    bounds = [Bound(), Bound(0.9), Bound(None, 0.05)]
    tasks = [asyncio.create_task(chat.ask(controls={"bound": bound})) for bound in bounds]
    await chat.model.received.wait()
    await asyncio.sleep(0)
    chat.model.go.set()
    assert await asyncio.gather(*tasks) == [("miss", "An answer.")] * 3
    assert chat.cache.embeds == 3
    assert len(chat.model.requests) == 1


async def test_an_answer_is_stored_with_the_vectors_of_its_lookup() -> None:
    chat = Chat()
    await chat.ask()
    await chat.has_stored()
    assert chat.cache.embeds == 1
    assert chat.cache.vectors[0] is not None


async def test_a_call_that_nobody_else_can_follow_is_not_published() -> None:
    chat = Chat()
    for controls in ({"no_cache": True}, {"no_store": True}, {"no_cache": True, "no_store": True}):
        await chat.ask(controls=controls)
    await chat.cache.stored.wait()
    assert (chat.leases.batches, chat.leases.waiting) == ([], 0)


@pytest.mark.parametrize(
    "options", [{"n": 2}, {"controls": {"no_store": True}}, {"n": 2, "stream": True}]
)
async def test_a_caller_that_leaves_ends_a_call_that_nobody_shares(options: Any) -> None:
    chat = Chat()
    chat.model.go.clear()
    leaving = asyncio.create_task(chat.ask(**options))
    await chat.model.received.wait()
    await leave(leaving)
    assert chat.model.ended.is_set()


async def test_a_caller_that_leaves_does_not_end_a_call_that_is_stored() -> None:
    chat = Chat()
    chat.model.go.clear()
    leaving = asyncio.create_task(chat.ask())
    await chat.model.received.wait()
    await leave(leaving)
    assert not chat.model.ended.is_set()
    chat.model.go.set()
    await chat.has_stored()
    assert await chat.ask() == ("exact", "An answer.")


async def test_a_long_conversation_is_answered_and_cached_like_a_short_one() -> None:
    chat = Chat()
    count = service.MAX_SHORT + 1
    messages = [{"role": "user", "content": str(number)} for number in range(count)]
    answer = await chat.start(messages=messages)
    assert answer.decision.kind == "miss"
    await answer.completion()
    await chat.has_stored()
    assert (await chat.start(messages=messages)).decision.kind == "exact"
