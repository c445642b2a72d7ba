"""What servers of language models do, streamed and whole, alone and shared, first and again.

A caller gets what the server says, or an error in the shape of OpenAI's API. The cache stores whole
answers only, and a replay equals the first answer field by field.
"""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.behaviours import BEHAVIOURS, Behaviour, Error
from tests.scripted_model import Json, ScriptedModel, running
from tests.stack import Stack, wait_until_ready

VARIANTS = [(is_streamed, callers) for is_streamed in (False, True) for callers in (1, 2)]
ATTEMPTS = 200


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with running(BEHAVIOURS) as one:
        yield one


@pytest.fixture(scope="module")
def chatting(redis_url: str, prefix: str, model: ScriptedModel) -> Iterator[Stack]:
    stack = Stack(redis_url, prefix, llm_base_url=model.url, llm_model="parrot")
    wait_until_ready(stack)
    yield stack
    stack.close()


@pytest.fixture
async def client(chatting: Stack) -> AsyncIterator[httpx.AsyncClient]:
    base = f"http://{chatting.http_address}"
    async with httpx.AsyncClient(base_url=base, timeout=60) as one:
        yield one


@dataclass
class Case:
    """A behaviour of the server, a form of the answer, and the number of concurrent callers."""

    name: str
    is_streamed: bool
    callers: int

    def __post_init__(self) -> None:
        self.behaviour: Behaviour = BEHAVIOURS[self.name]
        self.question = f"{self.name} {uuid.uuid4()}"

    @property
    def expected(self) -> Any:
        one = self.behaviour
        return one.expected_stream if self.is_streamed else one.expected_reply

    @property
    def is_stored(self) -> bool:
        return self.behaviour.stores_stream if self.is_streamed else self.behaviour.stores_reply

    async def ask(self, client: httpx.AsyncClient, *, wants_usage: bool = True) -> httpx.Response:
        body: Json = {"messages": [{"role": "user", "content": self.question}]}
        if self.is_streamed:
            body |= {"stream": True, "stream_options": {"include_usage": wants_usage}}
        headers = {"X-Memetwin-Namespace": self.question}
        return await client.post("/v1/chat/completions", json=body, headers=headers)

    async def ask_together(
        self, client: httpx.AsyncClient, model: ScriptedModel
    ) -> list[httpx.Response]:
        """Ask with all callers. The server answers when it has been asked."""
        model.hold(self.question)
        calls = [
            asyncio.create_task(self.ask(client, wants_usage=number == 0))
            for number in range(self.callers)
        ]
        while not model.calls[self.question]:
            await client.get("/healthz")
        model.release(self.question)
        return await asyncio.gather(*calls)

    def check(self, reply: httpx.Response, *, wants_usage: bool) -> None:
        assert "text/plain" not in reply.headers["content-type"]
        if isinstance(self.expected, Error):
            self._check_error(reply, self.expected)
        elif self.is_streamed:
            assert reply.status_code == 200
            expected = self.expected if wants_usage else without_usage(self.expected)
            assert events(reply) == [*expected, "[DONE]"]
        else:
            assert (reply.status_code, reply.json()) == (200, self.expected)

    def _check_error(self, reply: httpx.Response, expected: Error) -> None:
        if reply.status_code == 200:
            assert self.is_streamed
            *_, last = events(reply)
            error = last["error"]
        else:
            assert reply.status_code == expected.status
            error = reply.json()["error"]
            for name, pattern in expected.headers.items():
                assert re.match(pattern, reply.headers[name])
        assert error.keys() == {"message", "type", "param", "code"}
        assert (error["code"] or "") == expected.code
        assert expected.has in error["message"]
        assert "secret" not in reply.text


def events(reply: httpx.Response) -> list[Any]:
    """Return the data of the events of a stream, which each have one line."""
    blocks = reply.content.split(b"\n\n")
    assert blocks.pop() == b""
    texts = [block.removeprefix(b"data: ") for block in blocks if not block.startswith(b":")]
    return ["[DONE]" if text == b"[DONE]" else json.loads(text) for text in texts]


def without_usage(chunks: list[Json]) -> list[Json]:
    return [
        {name: value for name, value in one.items() if name != "usage" or value is not None}
        for one in chunks
        if one["choices"] or not one.get("usage")
    ]


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_a_caller_gets_what_the_server_says_or_an_error(
    client: httpx.AsyncClient, model: ScriptedModel, name: str
) -> None:
    cases = [Case(name, is_streamed, callers) for is_streamed, callers in VARIANTS]
    for case in cases:
        replies = await case.ask_together(client, model)
        for number, reply in enumerate(replies):
            case.check(reply, wants_usage=number == 0)
            if reply.status_code == 200:
                assert reply.headers["x-memetwin-cache"] == "miss"
            for header, value in case.behaviour.headers.items():
                assert reply.headers[header] == value
        again = await repeated(case, client)
        case.check(again, wants_usage=True)
        if again.status_code == 200:
            kind = again.headers["x-memetwin-cache"].partition("-")[0]
            assert kind == ("hit" if case.is_stored else "miss")


async def repeated(case: Case, client: httpx.AsyncClient) -> httpx.Response:
    """Ask again, until the answer is stored if it is to be stored."""
    for _ in range(ATTEMPTS):
        reply = await case.ask(client)
        if not case.is_stored or reply.headers["x-memetwin-cache"].startswith("hit"):
            return reply
    return reply


def test_there_are_many_cases() -> None:
    assert len(BEHAVIOURS) * len(VARIANTS) * 2 >= 400
