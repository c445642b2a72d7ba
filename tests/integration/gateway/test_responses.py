"""Responses through the real cache: shared, served to similar questions, and judged by feedback."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.language_model import LanguageModelServer, quote, running
from tests.stack import Stack, wait_until, wait_until_ready


@pytest.fixture(scope="module")
def model() -> Iterator[LanguageModelServer]:
    with running() as one:
        yield one


@pytest.fixture(scope="module")
def stack(redis_url: str, prefix: str, model: LanguageModelServer) -> Iterator[Stack]:
    one = Stack(redis_url, f"{prefix}responses:", llm_base_url=model.url, llm_model="parrot")
    wait_until_ready(one)
    yield one
    one.close()


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    url = f"http://{stack.http_address}/v1"
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as one:
        yield one


@pytest.fixture
def question() -> str:
    return f"What is {uuid.uuid4()}?"


def respond(client: openai.OpenAI, question: str, **options: Any) -> tuple[str, str]:
    """Return what the cache did, and the text."""
    raw = client.responses.with_raw_response.create(model="parrot", input=question, **options)
    return raw.headers["x-memetwin-cache"], raw.parse().output_text


def streamed(client: openai.OpenAI, question: str) -> str:
    with client.responses.stream(model="parrot", input=question) as stream:
        return str(stream.get_final_response().output_text)


def test_concurrent_responses_and_chats_share_one_call(
    client: openai.OpenAI, model: LanguageModelServer, question: str
) -> None:
    def chat() -> str:
        messages: Any = [{"role": "user", "content": question}]
        reply = client.chat.completions.create(model="parrot", messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in reply if chunk.choices)

    model.hold(question)
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(streamed, client, question) for _ in range(6)]
        calls += [pool.submit(chat) for _ in range(6)]
        wait_until(lambda: model.calls[question], 30)
        model.release(question)
        assert {call.result(60) for call in calls} == {quote(question)}
    assert model.calls[question] == 1
    wait_until(lambda: respond(client, question)[0] == "hit-exact", 10)


def test_a_similar_question_is_answered_from_the_cache(
    client: openai.OpenAI, question: str
) -> None:
    headers = {"X-Memetwin-Namespace": question}
    asked, similar = "How do I reset my password?", "How can I reset my password?"
    assert respond(client, asked, extra_headers=headers)[0] == "miss"
    wait_until(lambda: respond(client, asked, extra_headers=headers)[0] == "hit-exact", 10)
    kind, text = respond(client, similar, extra_headers=headers)
    assert (kind, text) == ("hit-semantic", quote(asked))


def test_feedback_deletes_a_wrong_answer(
    client: openai.OpenAI, stack: Stack, question: str
) -> None:
    headers = {"X-Memetwin-Namespace": question}
    url = f"http://{stack.http_address}/v1"
    body: Any = {"model": "parrot", "input": question}
    wait_until(lambda: respond(client, question, extra_headers=headers)[0] == "hit-exact", 10)
    hit = httpx.post(f"{url}/responses", json=body, headers=headers, timeout=60)
    assert float(hit.headers["x-memetwin-similarity"]) == 1.0
    verdict = {"entry_id": hit.headers["x-memetwin-entry-id"], "prompt": question, "correct": False}
    elsewhere = httpx.post(f"{url}/feedback", json=verdict, timeout=60)
    assert elsewhere.json()["error"]["reason"] == "ENTRY_NOT_FOUND"
    reply = httpx.post(f"{url}/feedback", json=verdict, headers=headers, timeout=60)
    assert (reply.status_code, reply.json()) == (200, {"deleted": True})
    assert respond(client, question, extra_headers=headers)[0] == "miss"


def test_a_stored_response_continues_on_the_server(
    client: openai.OpenAI, model: LanguageModelServer, question: str
) -> None:
    first = client.responses.create(model="parrot", input=question, store=True)
    assert first.id in model.responses
    raw = client.responses.with_raw_response.create(
        model="parrot", input="And then?", previous_response_id=first.id
    )
    assert raw.headers["x-memetwin-cache-reason"] == "STATEFUL"
    assert client.responses.retrieve(first.id).output_text == first.output_text


def test_an_answer_that_is_cut_off_is_an_error_and_is_not_stored(
    client: openai.OpenAI, model: LanguageModelServer, question: str
) -> None:
    cut = f"cut {question}"
    for calls in (1, 2):
        with pytest.raises(openai.APIError, match="cut off"):
            streamed(client, cut)
        assert model.calls[cut] == calls
