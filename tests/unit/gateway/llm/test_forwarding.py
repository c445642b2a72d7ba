from typing import Any

import pytest

from services.errors import Unavailable
from services.gateway.auth.caller import set_caller
from services.gateway.llm.forwarding import ResponseForwarder
from services.key_file import Key
from tests.fakes.responses import ResponseServer

BODY = {"input": "Hi?", "store": True}


async def stream(server: ResponseServer) -> list[Any]:
    body = {**BODY, "stream": True}
    return [event async for event in ResponseForwarder(server.client).stream(body)]


async def test_the_response_is_passed_on() -> None:
    server = ResponseServer()
    assert await ResponseForwarder(server.client).create(BODY) == server.response
    assert server.requests == [("POST", "/v1/responses", {**BODY, "model": "m"})]


async def test_the_events_are_passed_on() -> None:
    server = ResponseServer()
    assert await stream(server) == server.events


async def test_a_stream_that_is_cut_off_is_a_failure() -> None:
    server = ResponseServer()
    server.events.pop()
    with pytest.raises(Unavailable):
        await stream(server)


async def test_the_caller_is_charged_for_the_tokens() -> None:
    charges: list[Any] = []
    set_caller(Key("0" * 64, "acme"), charges.append)
    server = ResponseServer()
    await ResponseForwarder(server.client).create(BODY)
    await stream(server)
    assert charges == [{"prompt_tokens": 3, "completion_tokens": 2}] * 2


async def test_a_stored_response_is_read() -> None:
    server = ResponseServer()
    forwarder = ResponseForwarder(server.client)
    assert await forwarder.call("GET", "resp_1/input_items", "limit=5") == server.response
    assert server.requests == [("GET", "/v1/responses/resp_1/input_items?limit=5", None)]
