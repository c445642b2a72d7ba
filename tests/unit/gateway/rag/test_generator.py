from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from services.errors import (
    FailedPrecondition,
    Failure,
    InvalidArgument,
    Overloaded,
    Unavailable,
)
from services.gateway.llm.client import LanguageModelClient, OnHeaders
from services.gateway.llm.errors import refused, unavailable
from services.gateway.llm.types import Json
from services.gateway.rag.generator import LanguageModelWriter
from services.gateway.rag.grounding.service import Grounding
from services.gateway.rag.types import Draft, WriteRequest
from tests.fakes.passages import passage
from tests.fakes.support import FakeSupport

PASSAGES = [passage("The otter swims in the river.", "a"), passage("The heron waits.", "b")]
USAGE = {"prompt_tokens": 200, "completion_tokens": 9}


class FakeModel(LanguageModelClient):
    """Answers ``text``, or raises ``failure``; records the requests."""

    def __init__(self, text: str = "", failure: Exception | None = None, **more: Any) -> None:
        self.text, self.failure, self.more = text, failure, {"finish_reason": "stop"} | more
        self.requests: list[Json] = []

    def model(self, requested: str) -> str:
        return requested or "configured"

    async def complete(self, body: Json, on_headers: OnHeaders | None = None) -> Json:
        self.requests.append(body)
        if self.failure:
            raise self.failure
        choice = {"message": {"content": self.text}, **self.more}
        return {"model": "answered", "choices": [choice], "usage": USAGE}

    async def stream(self, body: Json, on_headers: OnHeaders | None = None) -> AsyncIterator[Json]:
        self.requests.append(body)
        for character in self.text:
            yield {"model": "answered", "choices": [{"delta": {"content": character}}]}
        if self.failure:
            raise self.failure
        yield {"choices": [{"delta": {}, **self.more}]}
        yield {"choices": [], "usage": USAGE}


async def write(client: FakeModel, **more: Any) -> tuple[list[str], Draft]:
    writer = LanguageModelWriter(client, Grounding(FakeSupport()), max_prompt_tokens=8192)
    request = WriteRequest("Where does the otter swim?", np.zeros(1, np.float32), **more)
    *pieces, draft = [piece async for piece in writer.write(request, PASSAGES)]
    assert isinstance(draft, Draft)
    return [piece for piece in pieces if isinstance(piece, str)], draft


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_cites_the_passages_it_names(streamed: bool) -> None:
    model = FakeModel("It swims in the river [1]. It flies [7]. [2] Nobody knows.")
    pieces, draft = await write(model, streamed=streamed)
    assert (
        draft.text == "".join(pieces) == "It swims in the river [1]. It flies . [2] Nobody knows."
    )
    assert (len(pieces) > 5) is streamed
    assert [(one.document, draft.text[one.start : one.end]) for one in draft.citations] == [
        ("a", "It swims in the river [1]."),
        ("b", "It flies . [2]"),
    ]
    assert [one.of(draft.text) for one in draft.unsupported] == ["Nobody knows."]
    assert (draft.dropped, draft.complete) == (1, True)
    assert (draft.model, draft.usage) == ("answered", USAGE)
    assert bool(model.requests[0].get("stream")) is streamed


async def test_the_request_names_the_model_and_carries_the_history() -> None:
    model = FakeModel("Yes [1].")
    await write(model, model="named", history=[("user", "Hello."), ("assistant", "Hi.")])
    [request] = model.requests
    assert (request["model"], request["temperature"]) == ("named", 0)
    roles = [message["role"] for message in request["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    await write(model)
    assert model.requests[-1]["model"] == "configured"


@pytest.mark.parametrize("streamed", [False, True])
async def test_sentences_that_the_passages_do_not_support_are_marked_or_dropped(
    streamed: bool,
) -> None:
    model = FakeModel(
        "The otter swims in the river [1]. It waits for 7 days [2]. The heron waits [2]."
    )
    _, marked = await write(model, streamed=streamed)
    assert [(one.of(marked.text), one.reason, one.detail) for one in marked.unsupported] == [
        ("It waits for 7 days [2].", "number", "7")
    ]
    assert [one.supported for one in marked.citations] == [True, False, True]
    pieces, dropped = await write(model, streamed=streamed, grounding="drop")
    assert "".join(pieces) == dropped.text
    assert dropped.text == "The otter swims in the river [1]. The heron waits [2]."
    assert (len(dropped.citations), dropped.unsupported, dropped.withheld) == (2, [], 1)
    _, off = await write(model, streamed=streamed, grounding="off")
    assert (off.unsupported, off.citations[1].supported) == ([], None)


async def test_an_answer_without_a_supported_sentence_is_not_complete() -> None:
    pieces, draft = await write(FakeModel("The fox flew 30 miles [1]."), grounding="drop")
    assert (pieces, draft.text, draft.withheld, draft.complete) == ([], "", 1, False)


async def test_an_unfinished_mark_is_not_lost() -> None:
    assert (await write(FakeModel("It swims [1")))[1].text == "It swims [1"


@pytest.mark.parametrize(("text", "reason"), [("It swims in", "length"), ("  ", "stop")])
async def test_a_truncated_or_empty_answer_is_not_complete(text: str, reason: str) -> None:
    assert (await write(FakeModel(text, finish_reason=reason)))[1].complete is False


async def test_the_budget_bounds_the_prompt_and_counts_teach_its_size() -> None:
    model = FakeModel("Yes [1].")
    writer = LanguageModelWriter(model, Grounding(FakeSupport()), max_prompt_tokens=100_000)
    many = [passage(f"Otter {number}. " + "word " * 100, str(number)) for number in range(8)]

    async def used() -> int:
        request = WriteRequest("Which?", np.zeros(1, np.float32), max_prompt_tokens=2500)
        *_, draft = [piece async for piece in writer.write(request, many)]
        assert isinstance(draft, Draft)
        return len(draft.passages)

    first = await used()
    assert 0 < first < await used() <= 8  # the model has counted far fewer tokens than bytes


@pytest.mark.parametrize(
    ("failure", "kind", "reason"),
    [
        (refused(429, b"{}"), Overloaded, "LANGUAGE_MODEL_BUSY"),
        (refused(400, b"{}"), InvalidArgument, "LANGUAGE_MODEL_REFUSED"),
        (refused(401, b"{}"), FailedPrecondition, "LANGUAGE_MODEL_MISCONFIGURED"),
        (refused(500, b"{}"), Unavailable, "LANGUAGE_MODEL_UNAVAILABLE"),
        (unavailable(), Unavailable, "LANGUAGE_MODEL_UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_failures_of_the_server_have_reasons(
    failure: Failure, kind: type[Failure], reason: str, streamed: bool
) -> None:
    with pytest.raises(kind) as caught:
        await write(FakeModel("It", failure), streamed=streamed)
    assert caught.value.reason == reason


async def test_a_failure_keeps_its_cause() -> None:
    failure = unavailable()
    failure.__cause__ = cause = ConnectionError()
    with pytest.raises(Unavailable) as caught:
        await write(FakeModel(failure=failure))
    assert caught.value.__cause__ is cause


def test_the_author_is_the_model_with_its_prompt() -> None:
    writer = LanguageModelWriter(FakeModel(), Grounding(FakeSupport()), max_prompt_tokens=100)
    larger = LanguageModelWriter(FakeModel(), Grounding(FakeSupport()), max_prompt_tokens=200)
    assert writer.author("") == writer.author("configured")
    names = {writer.author(""), writer.author("other"), larger.author(""), "extractive"}
    assert len(names) == 4
