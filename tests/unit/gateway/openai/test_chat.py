import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from services.errors import Aborted
from services.gateway.auth.caller import set_caller
from services.gateway.cache.types import Scope
from services.gateway.chat.answer import ChatAnswer
from services.gateway.coalescing.singleflight import Item
from services.gateway.openai.chat import ChatRoutes
from services.key_file import Key
from tests.fakes.chat import Chat

MESSAGES = [{"role": "user", "content": "Hi?"}]


async def post(chat: Chat, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    app = Starlette(routes=ChatRoutes(chat.service, 15.0).routes())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        body.setdefault("messages", MESSAGES)
        return await client.post("/v1/chat/completions", json=body, headers=headers)


def events(reply: httpx.Response) -> list[Any]:
    """Return the data of server-sent events.

    The last one is ``[DONE]`` if the stream is complete.
    """
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def test_a_completion_says_what_the_cache_did() -> None:
    chat = Chat()
    reply = await post(chat)
    assert reply.json()["choices"][0]["message"]["content"] == "An answer."
    assert reply.headers["x-memetwin-cache"] == "miss"
    assert reply.headers["x-memetwin-cache-reason"]
    assert "age" not in reply.headers
    await chat.has_stored()
    again = await post(chat)
    assert again.json() == reply.json()
    assert again.headers["x-memetwin-cache"] == "hit-exact"
    assert int(again.headers["age"]) > 0
    assert again.headers["x-memetwin-entry-id"]
    assert "x-memetwin-cache-reason" not in again.headers


async def test_a_stream_is_server_sent_events() -> None:
    reply = await post(Chat("One ", "two."), stream=True)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-store"
    *chunks, last = events(reply)
    assert last == "[DONE]"
    texts = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
    assert "".join(filter(None, texts)) == "One two."


async def test_headers_control_the_cache() -> None:
    chat = Chat()
    assert (await post(chat, {"Cache-Control": "no-store"})).headers["x-memetwin-cache"] == "miss"
    assert not chat.cache.entries
    bypass = {"Cache-Control": "no-cache, no-store"}
    assert (await post(chat, bypass)).headers["x-memetwin-cache"] == "bypass"
    await post(chat, {"Cache-Control": "max-age=60"})
    assert chat.cache.bounds[-1].max_age == 60.0


async def test_a_bypass_has_a_reason() -> None:
    chat = Chat()
    for headers, body, kind, reason in [
        ({"Cache-Control": "no-cache, no-store"}, {}, "bypass", "CACHE_CONTROL"),
        ({"Cache-Control": "no-cache"}, {}, "miss", "CACHE_CONTROL"),
        ({}, {"temperature": 2}, "bypass", "TEMPERATURE"),
    ]:
        reply = await post(chat, headers, **body)
        found = reply.headers["x-memetwin-cache"], reply.headers["x-memetwin-cache-reason"]
        assert found == (kind, reason)


async def test_an_answer_is_stored_if_the_model_calls_no_tool() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    chat = Chat()
    await post(chat, tools=tools)
    await chat.has_stored()
    assert (await post(chat, tools=tools)).headers["x-memetwin-cache"] == "hit-exact"
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    chat = Chat()
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    chat.model.choice = {"message": message, "finish_reason": "tool_calls"}
    for _ in range(2):
        assert (await post(chat, tools=tools)).headers["x-memetwin-cache"] == "miss"
    assert not chat.cache.entries


async def test_headers_name_the_scope() -> None:
    chat = Chat()
    names = {"tenant": "acme", "user": "ann", "namespace": "faq"}
    await post(chat, {f"X-Memetwin-{name}": value for name, value in names.items()})
    await chat.has_stored()
    [entry] = chat.cache.entries.values()
    assert entry.scope == Scope("acme", "ann", "faq")


async def test_a_key_decides_the_tenant_and_the_bound() -> None:
    set_caller(Key("0" * 64, "acme", max_error_rate=0.01))
    chat = Chat()
    await post(chat)
    assert chat.cache.bounds[-1].max_error_rate == 0.01
    other = await post(chat, {"X-Memetwin-Tenant": "umbrella"})
    assert (other.status_code, other.json()["error"]["code"]) == (403, "other_tenant")


async def test_a_refusal_of_the_language_model_server_keeps_its_status_and_fields() -> None:
    for stream in (False, True):
        chat = Chat()
        chat.model.status = 418
        reply = await post(chat, stream=stream)
        assert reply.status_code == 418
        error = reply.json()["error"]
        assert (error["message"], error["code"]) == ("No.", "no")


async def test_a_failure_within_a_stream_is_its_last_event() -> None:
    chat = Chat()
    chat.model.breaks_off = True
    reply = await post(chat, stream=True)
    assert reply.status_code == 200
    first, *_, last = events(reply)
    assert first["choices"]
    assert last["error"]["code"] == "language_model_unavailable"


async def test_what_ends_a_stream_is_never_the_requests_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def items() -> AsyncIterator[Item]:
        yield {"chunk": {"choices": [{"index": 0, "delta": {"content": "One "}}]}}
        raise Aborted("LEADER_LOST", "It is gone.")

    chat = Chat()
    answer = await chat.start(stream=True)

    async def complete(*_: Any) -> ChatAnswer:
        return dataclasses.replace(answer, items=items())

    monkeypatch.setattr(chat.service, "complete", complete)
    error = events(await post(chat, stream=True))[-1]["error"]
    assert (error["code"], error["type"]) == ("leader_lost", "server_error")


async def test_a_bad_body_is_refused_in_openais_shape() -> None:
    reply = await post(Chat(), messages=[])
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "no_messages", "messages")
