"""Common client libraries work with only a new base URL, in front of a real model server."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests import small_language_model
from tests.small_language_model import ANSWER
from tests.stack import Stack, wait_until, wait_until_ready

KEY = SecretStr("any")
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    small_language_model.make(folder)
    return folder


@pytest.fixture(scope="module")
def base_url(redis_url: str, prefix: str, model: Path) -> Iterator[str]:
    """The gateway's, in front of the real server."""
    with small_language_model.served(model) as url:
        stack = Stack(redis_url, prefix, llm_base_url=url, llm_model=str(model))
        wait_until_ready(stack)
        yield f"http://{stack.http_address}/v1"
        stack.close()


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key="any", max_retries=0) as one:
        yield one


@pytest.fixture(scope="module")
def chat(base_url: str, model: Path) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=base_url,
        api_key=KEY,
        model=str(model),
        max_retries=0,
        include_response_headers=True,
    )


@pytest.fixture
def question() -> str:
    return f"What is {uuid.uuid4()}?"


def cached(message: AIMessage) -> str:
    return str(message.response_metadata["headers"]["x-memetwin-cache"])


def test_openai_plain_and_streamed(client: openai.OpenAI, model: Path, question: str) -> None:
    def ask(**options: Any) -> Any:
        messages: Any = [{"role": "user", "content": question}]
        return client.chat.completions.with_raw_response.create(
            model=str(model), messages=messages, **options
        )

    first = ask()
    assert first.headers["x-memetwin-cache"] == "miss"
    assert first.parse().choices[0].message.content == ANSWER
    wait_until(lambda: ask().headers["x-memetwin-cache"] == "hit-exact", 20)
    again = ask()
    # A question that came before the first answer was stored has replaced that answer by its own.
    assert again.parse().choices == first.parse().choices
    assert again.parse() == ask().parse()
    assert "age" in again.headers
    counted = {"stream": True, "stream_options": {"include_usage": True}}
    streamed = ask(**counted)
    assert streamed.headers["x-memetwin-cache"] == "hit-exact"
    chunks = list(streamed.parse())
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == ANSWER
    assert chunks[-1].usage == first.parse().usage


def test_openai_records_a_real_stream(client: openai.OpenAI, model: Path, question: str) -> None:
    def ask() -> tuple[str, list[str]]:
        messages: Any = [{"role": "user", "content": question}]
        raw = client.chat.completions.with_raw_response.create(
            model=str(model), messages=messages, stream=True
        )
        pieces = [one.choices[0].delta.content for one in raw.parse() if one.choices]
        return raw.headers["x-memetwin-cache"], [piece for piece in pieces if piece]

    kind, pieces = ask()
    assert (kind, "".join(pieces)) == ("miss", ANSWER)
    wait_until(lambda: ask()[0] == "hit-exact", 20)
    assert ask()[1] == pieces


def test_openai_gets_errors_in_its_shape(client: openai.OpenAI, question: str) -> None:
    with pytest.raises(openai.APIStatusError) as theirs:
        client.chat.completions.create(
            model="no-such-model", messages=[{"role": "user", "content": question}]
        )
    assert 400 <= theirs.value.status_code < 500
    with pytest.raises(openai.BadRequestError) as ours:
        client.chat.completions.create(model="any", messages=[])
    assert (ours.value.code, ours.value.param) == ("no_messages", "messages")


def test_openai_lists_the_models_of_both(client: openai.OpenAI) -> None:
    assert "all-MiniLM-L6-v2" in [model.id for model in client.models.list()]


def test_langchain_plain(chat: ChatOpenAI, question: str) -> None:
    first = chat.invoke(question)
    assert (first.content, cached(first)) == (ANSWER, "miss")
    wait_until(lambda: cached(chat.invoke(question)) == "hit-exact", 20)
    again = chat.invoke(question)
    assert again.content == ANSWER
    assert again.usage_metadata == first.usage_metadata


async def test_langchain_streamed(chat: ChatOpenAI, question: str) -> None:
    assert "".join(str(chunk.content) for chunk in chat.stream(question)) == ANSWER
    wait_until(lambda: cached(chat.invoke(question)) == "hit-exact", 20)
    pieces = [str(chunk.content) async for chunk in chat.astream(question)]
    assert "".join(pieces) == ANSWER
    assert len([piece for piece in pieces if piece]) > 1


def test_langchain_brings_a_conversation_and_tools(chat: ChatOpenAI, question: str) -> None:
    talk = [("system", "Be brief."), ("user", "Hello."), ("assistant", "Hi."), ("user", question)]
    assert chat.invoke(talk).content == ANSWER
    wait_until(lambda: cached(chat.invoke(talk)) == "hit-exact", 20)
    assert cached(chat.invoke([talk[0], talk[-1]])) == "miss"
    with_tools = chat.bind_tools([TOOL])
    assert cached(with_tools.invoke(question)) == "miss"
    wait_until(lambda: cached(with_tools.invoke(question)) == "hit-exact", 20)


def test_langchain_gets_errors(base_url: str, question: str) -> None:
    wrong = ChatOpenAI(base_url=base_url, api_key=KEY, model="no-such-model", max_retries=0)
    with pytest.raises(openai.APIStatusError):
        wrong.invoke(question)
