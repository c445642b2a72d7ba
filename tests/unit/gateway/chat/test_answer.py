from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.gateway.cache.types import Context, Decision, Entry, Request, Scope
from services.gateway.chat.answer import ChatAnswer, done, replayed
from services.gateway.chat.types import CacheControls, ChatRequest

USAGE = {"prompt_tokens": 1, "completion_tokens": 2}


def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


CHUNKS = [
    {"id": "", "choices": [], "usage": None},
    chunk({"role": "assistant", "content": "", "refusal": None}) | {"usage": None},
    chunk({"content": "a"}) | {"usage": None},
    chunk({"content": "b", "reasoning_content": "c"}) | {"usage": None},
    chunk({}, "stop") | {"usage": None},
    {"id": "1", "choices": [], "usage": USAGE},
]


def answer(items: list[dict[str, Any]], *, bypasses: bool = False, **body: Any) -> ChatAnswer:
    async def arriving() -> AsyncIterator[dict[str, Any]]:
        for item in items:
            yield item

    cached = None if bypasses else Request(Scope(), Context(), "Hi?")
    request = ChatRequest({"model": "m", **body}, cached, CacheControls())
    return ChatAnswer(request, Decision("miss"), arriving())


async def chunks(one: ChatAnswer) -> list[dict[str, Any]]:
    return [chunk async for chunk in one.chunks()]


@pytest.mark.parametrize("wants_usage", [True, False])
async def test_a_replay_equals_the_first_stream(wants_usage: bool) -> None:
    body: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": wants_usage}}
    first = await chunks(answer([*({"chunk": one} for one in CHUNKS), done(CHUNKS)], **body))
    again = await chunks(answer([done(CHUNKS)], **body))
    assert first == again
    if wants_usage:
        assert first == CHUNKS
    else:
        assert first[0] == {"id": "", "choices": []}
        assert len(first) == len(CHUNKS) - 1
        assert all("usage" not in one for one in first)


async def test_a_stream_that_bypasses_the_cache_stays_as_it_is() -> None:
    items: list[dict[str, Any]] = [*({"chunk": one} for one in CHUNKS), {"done": {}}]
    assert await chunks(answer(items, bypasses=True)) == CHUNKS


async def test_the_headers_of_the_server_arrive_with_the_answer() -> None:
    headers = {"x-request-id": "r"}
    streamed = answer(
        [{"chunk": CHUNKS[1], "headers": headers}, {"chunk": CHUNKS[2]}, {"done": {}}]
    )
    async for _ in streamed.chunks():
        assert streamed.headers == headers
    whole = answer([{"done": {"id": "1"}, "headers": headers}])
    assert await whole.completion() == {"id": "1"}
    assert whole.headers == headers


async def test_an_entry_of_an_earlier_version_is_replayed_in_its_pieces() -> None:
    completion = done(CHUNKS)["done"]
    for pieces, expected in (["a", "b"], ["a", "b"]), ([], ["ab"]):
        detail = {"completion": completion, "pieces": pieces}
        one = answer([])
        item = replayed(one.request, entry(detail))
        found = await chunks(answer([item]))
        texts = [chunk["choices"][0]["delta"].get("content") for chunk in found]
        assert [text for text in texts if text] == expected


def entry(detail: dict[str, Any]) -> Entry:
    return Entry("e", "Hi?", "ab", Scope(), "f", {}, 1.0, 0.0, detail=detail)
