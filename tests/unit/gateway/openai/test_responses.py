import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from services.gateway.circuit_breaker import CircuitBreaker
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.forwarding import ResponseForwarder
from services.gateway.openai.chat import ChatRoutes
from services.gateway.openai.response_ids import ResponseIds
from services.gateway.openai.response_items import ResponseItems
from services.gateway.openai.responses import ResponseRoutes, ResponseState
from tests.fakes.cache_store import fake_scopes
from tests.fakes.chat import Chat
from tests.fakes.redis import FakeRedis
from tests.fakes.responses import ResponseServer

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}


async def read_secret() -> bytes:
    return b"secret"


async def send(
    chat: Chat,
    path: str = "/v1/responses",
    headers: dict[str, str] | None = None,
    method: str = "POST",
    server: ResponseServer | None = None,
    redis: Any = None,
    **body: Any,
) -> httpx.Response:
    usage: Any = chat.usage
    redis = redis or FakeRedis()
    client = server.client if server else chat.model.client
    items = ResponseItems(redis, "p:", fake_scopes(redis), CircuitBreaker())
    state = ResponseState(ResponseIds(read_secret), items)
    routes = [
        *ResponseRoutes(chat.service, ResponseForwarder(client), usage, state, 15.0).routes(),
        *ChatRoutes(chat.service, 15.0).routes(),
    ]
    transport = httpx.ASGITransport(Starlette(routes=routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        return await http.request(method, path, json=body or None, headers=headers)


def events(reply: httpx.Response) -> list[Any]:
    """Return the events of a stream; the name of each is its type."""
    found = []
    for text in filter(None, reply.text.split("\n\n")):
        name, data = text.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def cached(reply: httpx.Response) -> tuple[str, str | None]:
    return reply.headers["x-memetwin-cache"], reply.headers.get("x-memetwin-cache-reason")


async def test_a_response_shares_the_cache_with_the_chat() -> None:
    chat = Chat("One ", "two.")
    first = await send(chat, input="Hi?")
    assert first.json()["output"][0]["content"][0]["text"] == "One two."
    assert cached(first)[0] == "miss"
    await chat.has_stored()
    again = await send(chat, input=[{"role": "user", "content": "Hi?"}])
    assert cached(again) == ("hit-exact", None)
    assert again.headers["x-memetwin-entry-id"]
    assert again.json() == first.json()
    messages = [{"role": "user", "content": "Hi?"}]
    assert cached(await send(chat, "/v1/chat/completions", messages=messages))[0] == "hit-exact"
    assert len(chat.model.requests) == 1


async def test_a_stream_is_cached_and_replayed() -> None:
    chat = Chat("One ", "two.")
    first = await send(chat, input="Hi?", stream=True)
    assert first.headers["content-type"].startswith("text/event-stream")
    await chat.has_stored()
    again = await send(chat, input="Hi?", stream=True)
    assert cached(again)[0] == "hit-exact"
    texts = [one["delta"] for one in events(again) if one["type"].endswith("text.delta")]
    assert texts == ["One ", "two."]
    assert events(again)[-1]["response"]["usage"] == events(first)[-1]["response"]["usage"]


async def test_headers_control_the_cache() -> None:
    chat = Chat()
    bypass = await send(chat, headers={"Cache-Control": "no-cache, no-store"}, input="Hi?")
    assert cached(bypass) == ("bypass", "CACHE_CONTROL")
    await send(chat, headers={"X-Memetwin-User": "ann"}, input="Hi?")
    await chat.has_stored()
    [entry] = chat.cache.entries.values()
    assert entry.scope.user == "ann"


async def test_text_with_declared_tools_is_cached() -> None:
    chat = Chat()
    await send(chat, input="Hi?", tools=[TOOL])
    await chat.has_stored()
    assert cached(await send(chat, input="Hi?", tools=[TOOL]))[0] == "hit-exact"
    assert cached(await send(chat, input="Hi?"))[0] == "miss"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"previous_response_id": "resp_1"}, "STATEFUL"),
        ({"store": True}, "STATEFUL"),
        ({"tools": [{"type": "web_search"}]}, "HOSTED_TOOLS"),
    ],
)
async def test_what_chat_completions_lack_is_forwarded(body: Any, reason: str) -> None:
    chat, server = Chat(), ResponseServer()
    for _ in range(2):
        reply = await send(chat, server=server, input="Hi?", **body)
        assert (reply.status_code, reply.json()) == (200, server.response)
        assert cached(reply) == ("bypass", reason)
    assert (
        server.requests == [("POST", "/v1/responses", {"input": "Hi?", "model": "m", **body})] * 2
    )
    assert chat.usage.kinds == ["bypass", "bypass"]
    assert not chat.model.requests


async def test_a_forwarded_stream_has_the_servers_events() -> None:
    server = ResponseServer()
    reply = await send(Chat(), server=server, input="Hi?", store=True, stream=True)
    assert events(reply) == server.events
    server.events = server.events[:-1]
    broken = events(await send(Chat(), server=server, input="Hi?", store=True, stream=True))
    assert broken[:-1] == server.events
    assert broken[-1]["sequence_number"] == len(server.events)
    assert broken[-1]["error"]["code"] == "language_model_unavailable"


async def test_another_tenant_does_not_find_a_response() -> None:
    server, acme = ResponseServer(), {"X-Memetwin-Tenant": "acme"}
    name = (await send(Chat(), headers=acme, server=server, input="Hi?", store=True)).json()["id"]
    streamed = await send(Chat(), headers=acme, server=server, input="Hi?", store=True, stream=True)
    assert {event["response"]["id"] for event in events(streamed)[::2]} == {name}
    assert name != "resp_1"
    again: dict[str, Any] = {"server": server, "input": "Hi?", "previous_response_id": name}
    await send(Chat(), headers=acme, **again)
    assert server.requests[-1][2]["previous_response_id"] == "resp_1"
    read = await send(Chat(), f"/v1/responses/{name}", acme, "GET", server)
    assert read.json()["id"] == name
    for headers in ({"X-Memetwin-Tenant": "umbrella"}, acme | {"X-Memetwin-User": "ann"}):
        for reply in (
            await send(Chat(), headers=headers, **again),
            await send(Chat(), f"/v1/responses/{name}", headers, "GET", server),
            await send(Chat(), "/v1/responses/resp_1", headers, "GET", server),
        ):
            assert reply.status_code == 404
            assert reply.json()["error"]["code"] == "response_not_found"


async def test_a_server_without_responses_says_so_itself() -> None:
    server = ResponseServer()
    server.status = 404
    for stream in (False, True):
        reply = await send(Chat(), server=server, input="Hi?", store=True, stream=stream)
        assert reply.status_code == 404
        assert reply.json()["error"]["message"] == "No."


async def test_stored_responses_are_read_and_deleted() -> None:
    server = ResponseServer()
    for method, path in [
        ("GET", "resp_1"),
        ("GET", "resp_1/input_items?limit=5"),
        ("DELETE", "resp_1"),
        ("POST", "resp_1/cancel"),
    ]:
        reply = await send(Chat(), f"/v1/responses/{path}", method=method, server=server)
        assert reply.json() == server.response
        assert server.requests[-1] == (method, f"/v1/responses/{path}", None)
    for method, path in [("GET", "a/b"), ("GET", "..%2Fmodels"), ("POST", "resp_1"), ("GET", "")]:
        reply = await send(Chat(), f"/v1/responses/{path}", method=method, server=server)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_route")


async def test_our_own_responses_are_not_stored() -> None:
    chat, server = Chat(), ResponseServer()
    name = (await send(chat, input="Hi?")).json()["id"]
    for reply in (
        await send(chat, server=server, input="Hi?", previous_response_id=name),
        await send(chat, f"/v1/responses/{name}", method="GET", server=server),
    ):
        assert reply.status_code == 404
        assert reply.json()["error"]["code"] == "response_not_stored"
    assert not server.requests


@pytest.mark.parametrize("stream", [False, True])
async def test_an_earlier_answer_may_be_a_reference(stream: bool) -> None:
    chat, redis = Chat("Yes?"), FakeRedis()
    first = await send(chat, redis=redis, input="Hi?", stream=stream)
    response = events(first)[-1]["response"] if stream else first.json()
    question = {"role": "user", "content": "Hi?"}
    reference = {"type": "item_reference", "id": response["output"][0]["id"]}
    again: Any = {"redis": redis, "input": [question, reference, question]}
    assert (await send(chat, **again)).status_code == 200
    answer = {"role": "assistant", "content": "Yes?"}
    assert chat.model.requests[-1]["messages"] == [question, answer, question]
    other = await send(chat, headers={"X-Memetwin-User": "ann"}, **again)
    error = other.json()["error"]
    assert (other.status_code, error["code"]) == (404, "item_not_found")
    assert error["param"] == "input"


async def test_a_caller_may_keep_the_items_to_itself() -> None:
    redis = FakeRedis()
    await send(Chat(), redis=redis, input="Hi?", store=False)
    await send(Chat(), headers={"Cache-Control": "no-store"}, redis=redis, input="Hi?")
    assert not any("response_items" in key for key in redis.values)


async def test_failures_have_openais_shape() -> None:
    chat = Chat()
    reply = await send(chat, input=5)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"], error["code"]) == (400, "input", "bad_input")
    chat.model.status = 418
    for stream in (False, True):
        reply = await send(chat, input="Hi?", stream=stream)
        assert (reply.status_code, reply.json()["error"]["code"]) == (418, "no")
    chat = Chat()
    chat.model.breaks_off = True
    last = events(await send(chat, input="Hi?", stream=True))[-1]
    assert (last["type"], last["code"]) == ("error", "language_model_unavailable")


async def test_without_a_language_model_nothing_is_answered() -> None:
    chat = Chat(client=LanguageModelClient("", "", ""))
    for stream in (False, True):
        reply = await send(chat, input="Hi?", stream=stream)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "no_language_model")
