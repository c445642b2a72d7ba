"""Curated entries over real sockets: loaded, looked up, answered in the chat, kept and purged."""

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, chat_pb2, chat_pb2_grpc
from tests.language_model import LanguageModelServer, quote, running
from tests.stack import Stack, wait_until_ready

QUESTION, PARAPHRASE = "How do I reset my password?", "How can I reset my password?"
ANSWER = "Choose 'Forgot password' on the login page."
CREATED, REPLACED, UNCHANGED, REFUSED = (
    cache_pb2.LOAD_STATUS_CREATED,
    cache_pb2.LOAD_STATUS_REPLACED,
    cache_pb2.LOAD_STATUS_UNCHANGED,
    cache_pb2.LOAD_STATUS_REFUSED,
)


@pytest.fixture(scope="module")
def model() -> Iterator[LanguageModelServer]:
    with running() as one:
        yield one


@pytest.fixture(scope="module")
def chatting(redis_url: str, prefix: str, model: LanguageModelServer) -> Iterator[Stack]:
    stack = Stack(redis_url, prefix, llm_base_url=model.url, llm_model="parrot", cache_stale=60.0)
    wait_until_ready(stack)
    yield stack
    stack.close()


@pytest.fixture(scope="module")
def cache(chatting: Stack) -> cache_pb2_grpc.CacheServiceStub:
    return cache_pb2_grpc.CacheServiceStub(chatting.gateway)


@pytest.fixture
def scope() -> cache_pb2.Scope:
    return cache_pb2.Scope(namespace=str(uuid.uuid4()))


def load(cache: Any, scope: Any, *messages: list[cache_pb2.CuratedEntry]) -> list[Any]:
    requests = [cache_pb2.LoadEntriesRequest(entries=entries) for entries in messages]
    requests[0].scope.CopyFrom(scope)
    replies = cache.LoadEntries(iter(requests), timeout=60)
    return [receipt for reply in replies for receipt in reply.receipts]


def faq(prompt: str = QUESTION, response: str = ANSWER, **fields: Any) -> cache_pb2.CuratedEntry:
    return cache_pb2.CuratedEntry(prompt=prompt, response=response, **fields)


def lookup(cache: Any, scope: Any, prompt: str, **fields: Any) -> Any:
    fields.setdefault("min_similarity", 0.9)
    request = cache_pb2.LookupEntryRequest(scope=scope, prompt=prompt, **fields)
    return cache.LookupEntry(request).decision


def test_receipts_follow_the_order_of_the_entries(cache: Any, scope: Any) -> None:
    first = load(
        cache,
        scope,
        [faq(), faq("  "), faq("Where is my order?", "In your account.")],
        [faq("Who?")],
    )
    assert [one.status for one in first] == [CREATED, REFUSED, CREATED, CREATED]
    assert (first[1].reason, first[1].message) == ("EMPTY_PROMPT", "The prompt is empty.")
    again = load(cache, scope, [faq(), faq("Where is my order?", "On the way.")])
    assert [one.status for one in again] == [UNCHANGED, REPLACED]
    assert [one.id for one in again] == [first[0].id, first[2].id]


def test_many_entries_are_found_by_their_meaning(cache: Any, scope: Any) -> None:
    entries = [faq(f"How long is the road to village {n}?", f"{n} miles.") for n in range(150)]
    assert {one.status for one in load(cache, scope, entries)} == {CREATED}
    listed = cache.ListEntries(cache_pb2.ListEntriesRequest(scope=scope, page_size=1000)).entries
    assert len(listed) == 150
    assert all(entry.curated for entry in listed)
    decision = lookup(cache, scope, "What is the length of the road to village 77?",
                      min_similarity=0.7)  # fmt: skip
    assert decision.entry.response == "77 miles."


def test_an_entry_answers_whatever_the_parameters_and_the_system_prompt_are(
    cache: Any, scope: Any
) -> None:
    load(cache, scope, [faq(metadata={"category": "account"}, cites=["faq"])])
    context = cache_pb2.RequestContext(
        model="any", parameters={"temperature": "1"}, system_prompt="Be kind."
    )
    for prompt, kind in (
        (QUESTION, cache_pb2.DECISION_KIND_EXACT),
        (PARAPHRASE, cache_pb2.DECISION_KIND_SEMANTIC),
    ):
        decision = lookup(cache, scope, prompt, context=context)
        assert (decision.kind, decision.entry.response) == (kind, ANSWER)
        assert (decision.entry.curated, decision.entry.ttl) == (True, 0)
        assert dict(decision.entry.metadata) == {"category": "account"}
        assert list(decision.entry.cites) == ["faq"]


@pytest.mark.parametrize(
    "part",
    [
        {"history": [cache_pb2.Message(role="user", content="Hello.")]},
        {"tools": ["{}"]},
        {"response_format": "{}"},
        {"model": "other"},
    ],
)
def test_other_requests_are_not_answered(cache: Any, scope: Any, part: Any) -> None:
    load(cache, scope, [faq(model="m")])
    context = cache_pb2.RequestContext(**{"model": "m"} | part)
    for prompt in (QUESTION, PARAPHRASE):
        decision = lookup(cache, scope, prompt, context=context, min_similarity=0.3)
        assert decision.kind == cache_pb2.DECISION_KIND_MISS
    assert decision.miss_reason == cache_pb2.MISS_REASON_CONTEXT_DIFFERS
    assert list(decision.differing_parts) == list(part)


def test_nothing_crosses_scopes(cache: Any, scope: Any) -> None:
    load(cache, scope, [faq()])
    for other in (
        cache_pb2.Scope(),
        cache_pb2.Scope(namespace=scope.namespace, user="u"),
        cache_pb2.Scope(namespace=scope.namespace, tenant="t"),
    ):
        for prompt in (QUESTION, PARAPHRASE):
            assert not lookup(cache, other, prompt).entry.curated


def test_a_curated_answer_comes_before_generated_ones(cache: Any, scope: Any) -> None:
    for prompt in (QUESTION, "How can one reset the password?"):
        cache.CreateEntry(
            cache_pb2.CreateEntryRequest(scope=scope, prompt=prompt, response="Generated.")
        )
    load(cache, scope, [faq()])
    cache.CreateEntry(
        cache_pb2.CreateEntryRequest(scope=scope, prompt=QUESTION, response="Generated.")
    )
    assert lookup(cache, scope, QUESTION).entry.response == ANSWER
    assert lookup(cache, scope, PARAPHRASE).entry.response == ANSWER


def test_the_chat_answers_with_curated_entries(
    chatting: Stack, cache: Any, model: LanguageModelServer, scope: Any
) -> None:
    load(cache, scope, [faq()])
    before = len(model.requests)
    chat = chat_pb2_grpc.ChatServiceStub(chatting.gateway)
    for prompt in (QUESTION, PARAPHRASE):
        reply = chat.Complete(
            chat_pb2.CompleteRequest(
                chat=chat_pb2.Chat(
                    messages=[
                        cache_pb2.Message(role="system", content="Be kind."),
                        cache_pb2.Message(role="user", content=prompt),
                    ],
                    temperature=0.5,
                    scope=scope,
                )
            )
        )
        assert (reply.message.content, reply.model) == (ANSWER, "parrot")
        assert reply.decision.entry.curated
    assert len(model.requests) == before
    stats = cache.GetStats(cache_pb2.GetStatsRequest(scope=scope))
    assert (stats.curated, stats.exact, stats.semantic) == (2, 1, 1)


def test_clients_of_openai_get_curated_answers(chatting: Stack, cache: Any, scope: Any) -> None:
    load(cache, scope, [faq()])
    headers = {"X-Memetwin-Namespace": scope.namespace}
    with openai.OpenAI(
        base_url=f"http://{chatting.http_address}/v1", api_key="any", default_headers=headers
    ) as client:
        messages: Any = [{"role": "user", "content": PARAPHRASE}]
        whole = client.chat.completions.create(model="parrot", messages=messages)
        assert whole.choices[0].message.content == ANSWER
        assert whole.usage
        assert whole.usage.total_tokens == 0
        stream = client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
        chunks = list(stream)
        assert "".join(one.choices[0].delta.content or "" for one in chunks) == ANSWER
        assert {one.model for one in chunks} == {"gpt-4o"}
        follow_up: Any = [*messages, {"role": "assistant", "content": ANSWER}, *messages]
        fresh = client.chat.completions.create(model="parrot", messages=follow_up)
        assert fresh.choices[0].message.content != ANSWER


def test_a_generated_answer_is_stored_beside_a_curated_one(
    chatting: Stack, cache: Any, scope: Any
) -> None:
    load(cache, scope, [faq()])
    body = {"model": "parrot", "messages": [{"role": "user", "content": QUESTION}]}
    url, name = f"http://{chatting.http_address}/v1/chat/completions", scope.namespace
    headers = {"X-Memetwin-Namespace": name, "Cache-Control": "no-cache"}
    fresh = httpx.post(url, json=body, headers=headers).json()
    assert fresh["choices"][0]["message"]["content"] == quote(QUESTION)
    served = httpx.post(url, json=body, headers={"X-Memetwin-Namespace": name})
    assert served.json()["choices"][0]["message"]["content"] == ANSWER
    assert served.headers["x-memetwin-cache"] == "hit-exact"


def test_entries_are_loaded_over_http(chatting: Stack, cache: Any, scope: Any) -> None:
    url = f"http://{chatting.http_address}/v1/cache/entries"
    entries = [{"prompt": QUESTION, "response": ANSWER, "ttl": 60}, {"prompt": "Who?"}]
    body = {"scope": {"namespace": scope.namespace}, "entries": entries}
    reply = httpx.post(url, json=body)
    created, refused = reply.json()["receipts"]
    assert (created["status"], refused["status"]) == (
        "LOAD_STATUS_CREATED",
        "LOAD_STATUS_REFUSED",
    )
    assert refused["reason"] == "EMPTY_RESPONSE"
    served = lookup(cache, scope, PARAPHRASE).entry
    assert (served.id, served.ttl) == (created["id"], 60)
    assert httpx.post(url, json={"entries": 5}).status_code == 400


def test_feedback_keeps_and_purges_select_curated_entries(cache: Any, scope: Any) -> None:
    [receipt] = load(cache, scope, [faq()])
    cache.CreateEntry(cache_pb2.CreateEntryRequest(scope=scope, prompt="Who?", response="You."))
    feedback = cache_pb2.ReportFeedbackRequest(
        scope=scope, id=receipt.id, correct=False, prompt=PARAPHRASE
    )
    assert not cache.ReportFeedback(feedback).deleted
    request = cache_pb2.PurgeEntriesRequest(scope=scope, force=True)
    request.filter.curated = False
    assert cache.PurgeEntries(request).count == 1
    assert lookup(cache, scope, PARAPHRASE).entry.id == receipt.id
    request.filter.curated = True
    assert cache.PurgeEntries(request).count == 1
    assert lookup(cache, scope, QUESTION).kind == cache_pb2.DECISION_KIND_MISS
    [second, first] = cache.ListPurges(cache_pb2.ListPurgesRequest(scope=scope)).purges
    assert (first.filter.curated, second.filter.curated) == (False, True)


def test_a_load_whose_stream_breaks_keeps_what_it_has_confirmed(cache: Any, scope: Any) -> None:
    entries = [faq(f"Question number {n}?", "Yes.") for n in range(200)]
    confirmed = threading.Event()

    def requests() -> Iterator[cache_pb2.LoadEntriesRequest]:
        yield cache_pb2.LoadEntriesRequest(scope=scope, entries=entries[:100])
        assert confirmed.wait(60)

    call = cache.LoadEntries(requests(), timeout=60)
    assert len(next(call).receipts) + len(next(call).receipts) == 100
    call.cancel()
    confirmed.set()
    again = load(cache, scope, entries)
    assert [one.status for one in again] == [UNCHANGED] * 100 + [CREATED] * 100
