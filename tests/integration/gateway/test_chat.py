import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import openai
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, chat_pb2, chat_pb2_grpc
from tests.language_model import LanguageModelServer, quote, running
from tests.refusals import refusal
from tests.stack import Stack, wait_until, wait_until_ready

TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.fixture(scope="module")
def model() -> Iterator[LanguageModelServer]:
    with running() as one:
        yield one


@pytest.fixture(scope="module")
def chatting(redis_url: str, prefix: str, model: LanguageModelServer) -> Iterator[Stack]:
    running_stack = Stack(
        redis_url,
        prefix,
        llm_base_url=model.url,
        llm_model="parrot",
        cache_stale=60.0,
        cache_min_similarity=0.95,
    )
    wait_until_ready(running_stack)
    yield running_stack
    running_stack.close()


@pytest.fixture(scope="module")
def client(chatting: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"http://{chatting.http_address}/v1", api_key="any", max_retries=0
    ) as one:
        yield one


@pytest.fixture(scope="module")
def chat(chatting: Stack) -> chat_pb2_grpc.ChatServiceStub:
    return chat_pb2_grpc.ChatServiceStub(chatting.gateway)


@pytest.fixture
def question() -> str:
    return f"What is the meaning of {uuid.uuid4()}?"


def ask(client: openai.OpenAI, text: str, **options: Any) -> tuple[str, Any]:
    """Return the cache's decision and the reply."""
    options.setdefault("model", "parrot")
    options.setdefault("messages", [{"role": "user", "content": text}])
    raw = client.chat.completions.with_raw_response.create(**options)
    return raw.headers["x-memetwin-cache"], raw.parse()


def stream(client: openai.OpenAI, text: str, **options: Any) -> tuple[str, list[Any]]:
    kind, chunks = ask(client, text, stream=True, **options)
    return kind, list(chunks)


def content(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def ask_until_cached(client: openai.OpenAI, text: str, **options: Any) -> None:
    """Ask until the answer comes from the cache."""
    ask(client, text, **options)
    wait_until(lambda: ask(client, text, **options)[0] == "hit-exact", 10)


def test_a_plain_answer_is_cached(
    client: openai.OpenAI, model: LanguageModelServer, question: str
) -> None:
    kind, first = ask(client, question)
    assert (kind, first.choices[0].message.content) == ("miss", quote(question))
    wait_until(lambda: ask(client, question)[0] == "hit-exact", 10)
    _, again = ask(client, question)
    assert again == first
    assert again.usage.completion_tokens == len(quote(question)) // 4
    assert model.calls[question] == 1
    _, chunks = stream(client, question)
    assert content(chunks) == quote(question)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_stream_is_recorded_and_replayed_in_its_pieces(
    client: openai.OpenAI, model: LanguageModelServer, question: str
) -> None:
    kind, fresh = stream(client, question, stream_options={"include_usage": True})
    assert (kind, content(fresh)) == ("miss", quote(question))
    wait_until(lambda: ask(client, question)[0] == "hit-exact", 10)
    kind, replayed = stream(client, question, stream_options={"include_usage": True})
    assert kind == "hit-exact"
    pieces = [
        [chunk.choices[0].delta.content for chunk in one if chunk.choices]
        for one in (fresh, replayed)
    ]
    assert pieces[0] == pieces[1]
    assert replayed[-1].usage == fresh[-1].usage
    _, without = stream(client, question)
    assert all(chunk.choices for chunk in without)
    assert ask(client, question)[1].choices[0].message.content == quote(question)
    assert model.calls[question] == 1


def test_a_paraphrase_is_served_and_an_opposite_is_not(client: openai.OpenAI) -> None:
    word = uuid.uuid4().hex[:4]
    headers = {"X-Memetwin-Namespace": word}
    ask_until_cached(client, "How do I turn on dark mode?", extra_headers=headers)
    kind, _ = ask(client, "How do I turn dark mode on?", extra_headers=headers)
    assert kind == "hit-semantic"
    assert ask(client, "How do I turn off dark mode?", extra_headers=headers)[0] == "miss"
    assert (
        ask(client, "How do I turn on dark mode?", extra_headers={"X-Memetwin-Tenant": word})[0]
        == "miss"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"n": 2},
        {"temperature": 1.5},
        {"logprobs": True},
        {"tools": [TOOL], "tool_choice": "required"},
        {"extra_headers": {"Cache-Control": "no-cache, no-store"}},
    ],
)
def test_what_is_not_cacheable_bypasses_the_cache(
    client: openai.OpenAI, model: LanguageModelServer, question: str, options: dict[str, Any]
) -> None:
    for _ in range(2):
        kind, reply = ask(client, question, **options)
        assert kind == "bypass"
        assert len(reply.choices) == options.get("n", 1)
    assert model.calls[question] == 2
    sent = {key: value for key, value in options.items() if key != "extra_headers"}
    assert sent.items() <= model.requests[-1].items()


def test_declared_tools_are_part_of_the_key(
    client: openai.OpenAI, model: LanguageModelServer, question: str
) -> None:
    other = {"type": "function", "function": {"name": "g", "parameters": {}}}
    assert ask(client, question, tools=[TOOL])[0] == "miss"
    wait_until(lambda: ask(client, question, tools=[TOOL])[0] == "hit-exact", 10)
    assert ask(client, question)[0] != "hit-exact"
    assert ask(client, question, tools=[TOOL, other])[0] != "hit-exact"
    calling = f"tool {question}"
    for _ in range(2):
        kind, reply = ask(client, calling, tools=[TOOL])
        assert kind == "miss"
        assert reply.choices[0].message.tool_calls
    assert model.calls[calling] == 2


def test_pictures_bypass_the_cache(client: openai.OpenAI, question: str) -> None:
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": question}, url]}]
    assert ask(client, "", messages=messages)[0] == "bypass"


@pytest.mark.parametrize(
    ("how", "streamed"),
    [
        ("length", False),
        ("length", True),
        ("tool", False),
        ("tool", True),
        ("refuse", False),
        ("cut", True),
    ],
)
def test_an_incomplete_answer_is_not_cached(
    client: openai.OpenAI, model: LanguageModelServer, question: str, how: str, streamed: bool
) -> None:
    text = f"{how} {question}"
    for _ in range(2):
        if how == "cut":
            with pytest.raises(openai.APIError):
                stream(client, text)
        elif streamed:
            assert stream(client, text)[0] == "miss"
        else:
            assert ask(client, text)[0] == "miss"
    assert model.calls[text] == 2


def test_the_key_has_all_that_answers_depend_on(client: openai.OpenAI, question: str) -> None:
    ask_until_cached(client, question, temperature=0)
    assert ask(client, question, temperature=0, user="someone")[0] == "hit-exact"
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    exchange = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    for options in (
        {"temperature": 0.1},
        {"temperature": 0, "model": "other"},
        {"temperature": 0, "messages": system},
        {"temperature": 0, "messages": [*exchange, {"role": "user", "content": question}]},
        {"temperature": 0, "response_format": {"type": "json_object"}},
        {"temperature": 0, "seed": 1},
    ):
        assert ask(client, question, **options)[0] == "miss", options


HISTORY = [
    {"role": "user", "content": "Which hotels in Rome have a pool?"},
    {"role": "assistant", "content": "The Grand, and the Excelsior."},
]


@pytest.mark.parametrize(
    ("cached_question", "same", "other"),
    [
        ("And in Paris?", "What about Paris?", "And in Madrid?"),
        ("How long does it take?", "And how long does that take?", "How much does it cost?"),
        ("And the second one?", "What about the second one?", "And the first one?"),
        ("And on my phone?", "How about on a phone?", "And by post?"),
        ("And on my phone?", "How about on a phone?", "And on my tablet?"),
    ],
)
def test_a_question_is_meant_in_its_context(
    client: openai.OpenAI, cached_question: str, same: str, other: str
) -> None:
    headers = {"X-Memetwin-Namespace": uuid.uuid4().hex}

    def after(*history: dict[str, str], text: str) -> str:
        messages = [*history, {"role": "user", "content": text}]
        return ask(client, "", messages=messages, extra_headers=headers)[0]

    after(*HISTORY, text=cached_question)
    wait_until(lambda: after(*HISTORY, text=cached_question) == "hit-exact", 10)
    assert after(*HISTORY, text=same) == "hit-semantic"
    assert after(*HISTORY, text=other) == "miss"
    history = [{"role": "user", "content": "Which hotels in Oslo have a sauna?"}, HISTORY[1]]
    assert after(*history, text=cached_question) == "miss"
    assert after(text=same) == "miss"


def test_cache_control(client: openai.OpenAI, model: LanguageModelServer, question: str) -> None:
    no_cache, no_store = {"Cache-Control": "no-cache"}, {"Cache-Control": "no-store"}
    assert ask(client, question, extra_headers=no_store)[0] == "miss"
    assert ask(client, question)[0] == "miss"
    wait_until(lambda: ask(client, question)[0] == "hit-exact", 10)
    before, usual = model.calls[question], model.answer
    model.answer = lambda body: "Another answer."
    assert ask(client, question)[1].choices[0].message.content == quote(question)
    assert ask(client, question, extra_headers=no_cache)[0] == "miss"
    assert model.calls[question] == before + 1
    # The new answer replaces the old one.
    wait_until(lambda: "Another" in str(ask(client, question)[1].choices[0].message.content), 10)
    model.answer = usual
    wait_until(
        lambda: ask(client, question, extra_headers={"Cache-Control": "max-age=0"})[0] == "miss", 10
    )


def test_errors_reach_the_caller_as_they_are(client: openai.OpenAI, question: str) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, f"busy {question}")
    error = {"message": "Too busy.", "type": "overload", "param": None, "code": "busy"}
    assert caught.value.body == error
    assert caught.value.response.headers["retry-after"] == "3"
    with pytest.raises(openai.BadRequestError) as ours:
        ask(client, "", messages=[])
    assert ours.value.code == "no_messages"
    assert ours.value.param == "messages"


def test_embeddings_and_models(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["parrot", "all-MiniLM-L6-v2"]
    made = client.embeddings.create(model=names[1], input=["cat", "kitten", "tax law"])
    cat, kitten, law = (one.embedding for one in made.data)
    assert len(cat) == 384
    near, far = (sum(a * b for a, b in zip(cat, other, strict=True)) for other in (kitten, law))
    assert near > far
    plain = client.embeddings.create(model=names[1], input="cat", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(cat, abs=1e-2)
    assert plain.usage.prompt_tokens > 0
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="nothing", input="cat")
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=names[1], input=[])


def test_a_lookup_serves_nothing_stale_and_gives_the_reason(chatting: Stack, question: str) -> None:
    cache = cache_pb2_grpc.CacheServiceStub(chatting.gateway)
    scope = cache_pb2.Scope(namespace=question)
    create = cache_pb2.CreateEntryRequest(scope=scope, prompt=question, response="!", ttl=0.3)
    cache.CreateEntry(create)
    too_old = cache_pb2.MISS_REASON_TOO_OLD
    for mode in (cache_pb2.LOOKUP_MODE_EXACT, cache_pb2.LOOKUP_MODE_SEMANTIC):
        lookup = cache_pb2.LookupEntryRequest(scope=scope, prompt=question, mode=mode)
        wait_until(
            lambda lookup=lookup: cache.LookupEntry(lookup).decision.miss_reason == too_old, 5
        )


def message(text: str, **fields: Any) -> chat_pb2.Chat:
    return chat_pb2.Chat(messages=[cache_pb2.Message(role="user", content=text)], **fields)


def test_chat_over_grpc(chat: Any, question: str, model: LanguageModelServer) -> None:
    parts = list(chat.StreamComplete(chat_pb2.StreamCompleteRequest(chat=message(question))))
    assert "".join(part.delta for part in parts) == quote(question)
    final = parts[-1].final
    assert (final.message.content, final.finish_reason) == (quote(question), "stop")
    assert final.usage.completion_tokens == len(quote(question)) // 4
    complete = chat_pb2.CompleteRequest(chat=message(question))
    exact = cache_pb2.DECISION_KIND_EXACT
    wait_until(lambda: chat.Complete(complete).decision.kind == exact, 10)
    reply = chat.Complete(complete)
    assert reply.message.content == quote(question)
    assert json.loads(reply.completion)["choices"][0]["message"]["content"] == quote(question)
    assert model.calls[question] == 1
    two = message(question, further='{"n": 2}')
    passed = chat.Complete(chat_pb2.CompleteRequest(chat=two))
    assert passed.decision.kind == cache_pb2.DECISION_KIND_BYPASS
    assert len(json.loads(passed.completion)["choices"]) == 2


def test_refusals_over_grpc(chat: Any, stack: Stack, question: str) -> None:
    def refuse(stub: Any, one: chat_pb2.Chat) -> Any:
        return refusal(stub.Complete, chat_pb2.CompleteRequest(chat=one))

    busy = refuse(chat, message(f"busy {question}"))
    assert busy == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LANGUAGE_MODEL_REFUSED", 3.0)
    assert refuse(chat, message("x", further="["))[1] == "BAD_JSON"
    assert refuse(chat, chat_pb2.Chat())[1] == "NO_MESSAGES"
    bare = chat_pb2_grpc.ChatServiceStub(stack.gateway)
    assert refuse(bare, message("x"))[:2] == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "NO_LANGUAGE_MODEL",
    )


@pytest.mark.parametrize("streamed", [False, True])
def test_concurrent_equal_questions_make_one_call(
    client: openai.OpenAI, model: LanguageModelServer, question: str, streamed: bool
) -> None:
    model.hold(question)

    def one(number: int) -> str:
        if streamed != (number % 5 == 0):
            return content(stream(client, question)[1])
        return str(ask(client, question)[1].choices[0].message.content)

    with ThreadPoolExecutor(30) as pool:
        answers = pool.map(one, range(30))
        wait_until(lambda: model.calls[question] == 1, 10)
        model.release(question)
        assert set(answers) == {quote(question)}
    assert model.calls[question] == 1


def test_a_caller_that_leaves_does_not_end_the_call(
    chatting: Stack, client: openai.OpenAI, model: LanguageModelServer, question: str
) -> None:
    model.hold(question)
    url = f"http://{chatting.http_address}/v1/chat/completions"
    body = {"model": "parrot", "messages": [{"role": "user", "content": question}], "stream": True}
    with httpx.stream("POST", url, json=body) as reply:
        next(reply.iter_lines())
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(stream, client, question)
        model.release(question)
        assert content(other.result(30)[1]) == quote(question)
    assert model.calls[question] == 1


def test_an_answer_on_its_way_does_not_outlive_a_purge(
    chatting: Stack, client: openai.OpenAI, model: LanguageModelServer, question: str
) -> None:
    model.hold(question)
    headers = {"X-Memetwin-Namespace": question}
    cache = cache_pb2_grpc.CacheServiceStub(chatting.gateway)
    scope = cache_pb2.Scope(namespace=question)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, client, question, extra_headers=headers)
        wait_until(lambda: model.calls[question] == 1, 10)
        cache.PurgeEntries(cache_pb2.PurgeEntriesRequest(scope=scope, force=True, all=True))
        model.release(question)
        assert answer.result(30)[1].choices[0].message.content == quote(question)
    assert ask(client, question, extra_headers=headers)[0] == "miss"
    wait_until(lambda: ask(client, question, extra_headers=headers)[0] == "hit-exact", 10)
    assert model.calls[question] == 2
