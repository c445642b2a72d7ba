"""Pairs of similar questions, through gRPC and OpenAI's API: only true paraphrases are served."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from tests.language_model import quote, running
from tests.stack import Stack, wait_until, wait_until_ready

CLAUSES = " ".join(
    f"Clause {number}: the supplier delivers goods of class {number % 7} within"
    f" {number % 30 + 1} days."
    for number in range(1, 45)
)
DIFFERENT = [
    # Scripts that the default model cannot read
    ("如何打开暗模式", "如何关闭暗模式"),
    ("パスワードを変更する方法", "パスワードを削除する方法"),
    ("비밀번호를 바꾸는 방법", "비밀번호를 찾는 방법"),
    ("ยกเลิกคำสั่งซื้อ", "เปลี่ยนที่อยู่จัดส่ง"),
    ("👍", "👎"),
    ("ሰላም", "ቡና"),
    # The order of words
    ("flights from Paris to London", "flights from London to Paris"),
    ("convert pdf to word", "convert word to pdf"),
    ("Convert 10 usd to eur", "Convert 10 eur to usd"),
    ("Did Google buy Apple?", "Did Apple buy Google?"),
    (
        "difference between left join and right join: which keeps the left rows",
        "difference between right join and left join: which keeps the right rows",
    ),
    ("Is Python faster than Java?", "Is Java faster than Python?"),
    ("Should I eat before I exercise?", "Should I exercise before I eat?"),
    ("Did Google acquire Apple?", "Was Google acquired by Apple?"),
    # Members of one class
    ("Weather in Paris on Monday?", "Weather in Paris on Tuesday?"),
    ("Show orders before January", "Show orders since January"),
    ("Show orders in March", "Show orders in May"),
    ("What is the 2nd amendment?", "What is the 4th amendment?"),
    ("Price of a small pizza", "Price of a medium pizza"),
    ("Do you sell this shirt in red?", "Do you sell this shirt in blue?"),
    ("How long is a marathon in km?", "How long is a marathon in miles?"),
    # Negations, question words, and differences in one word
    ("Which foods are safe for dogs?", "Which foods are never safe for dogs?"),
    ("When is the meeting?", "Where is the meeting?"),
    ("What is my balance?", "What is your balance?"),
    # Opposites in other languages
    ("как включить тёмную тему", "как выключить тёмную тему"),
    ("¿cómo activo el modo oscuro?", "¿cómo desactivo el modo oscuro?"),
    ("Wie schalte ich den Dunkelmodus ein?", "Wie schalte ich den Dunkelmodus aus?"),
    ("Comment activer le mode sombre ?", "Comment désactiver le mode sombre ?"),
    ("Jak włączyć tryb ciemny?", "Jak wyłączyć tryb ciemny?"),
    # Texts that are equal up to the model's limit
    (
        f"{CLAUSES} Question: who pays the freight?",
        f"{CLAUSES} Question: where is the place of jurisdiction?",
    ),
]
# The default bound serves these, even if the cache has no other entry.
SAME = [
    ("How do I reset my password?", "How can I reset my password?"),
    ("How do I turn on dark mode?", "How do I turn dark mode on?"),
    ("How do I learn Python?", "How can I learn Python?"),
    ("What is the capital of France?", "The capital of France is what?"),
    ("flights from Paris to London", "flights to London from Paris"),
    ("How can I return an item I bought?", "How do I return a product that I bought?"),
    (
        "Which cat became famous for looking annoyed?",
        "Which cat got famous because it looked annoyed?",
    ),
]
# A cache with one entry serves these at a lower bound. The second is on the line by default.
SAME_BUT_FARTHER = [
    ("What are your opening hours?", "What are the opening hours?"),
    ("Where can I download my invoice?", "Where do I download my invoices?"),
]
BOUNDS: list[dict[str, Any]] = [{}, {"min_similarity": 0.5}, {"max_error_rate": 0.5}]


@pytest.fixture(scope="module")
def chatting(redis_url: str, prefix: str) -> Iterator[Stack]:
    with running() as model:
        stack = Stack(redis_url, prefix, llm_base_url=model.url, llm_model="parrot")
        wait_until_ready(stack)
        yield stack
        stack.close()


def lookup(stack: Stack, stored: str, asked: str, **bound: Any) -> Any:
    """Return the decision on a question when another one is stored."""
    stub: Any = cache_pb2_grpc.CacheServiceStub(stack.gateway)
    scope = cache_pb2.Scope(tenant=str(uuid.uuid4()))
    stub.CreateEntry(cache_pb2.CreateEntryRequest(scope=scope, prompt=stored, response="Yes."))
    return stub.LookupEntry(
        cache_pb2.LookupEntryRequest(scope=scope, prompt=asked, **bound)
    ).decision


def complete(stack: Stack, tenant: str, question: str) -> tuple[str, str]:
    """Return the cache's decision and the answer."""
    reply = httpx.post(
        f"http://{stack.http_address}/v1/chat/completions",
        json={"model": "parrot", "messages": [{"role": "user", "content": question}]},
        headers={"X-Memetwin-Tenant": tenant},
        timeout=60,
    )
    reply.raise_for_status()
    return reply.headers["x-memetwin-cache"], reply.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: next(iter(bound), "default"))
def test_look_alikes_are_not_served_at_any_bound(chatting: Stack, bound: dict[str, Any]) -> None:
    served = [
        pair
        for pair in DIFFERENT
        if lookup(chatting, *pair, **bound).kind != cache_pb2.DECISION_KIND_MISS
    ]
    assert served == []


def test_look_alikes_are_not_served_by_the_chat(chatting: Stack) -> None:
    for stored, asked in DIFFERENT:
        tenant = str(uuid.uuid4())
        complete(chatting, tenant, stored)
        wait_until(lambda: complete(chatting, tenant, stored)[0] == "hit-exact", 10)  # noqa: B023
        assert complete(chatting, tenant, asked) == ("miss", quote(asked))


def test_paraphrases_are_served(chatting: Stack) -> None:
    for stored, asked in SAME:
        assert lookup(chatting, stored, asked).kind == cache_pb2.DECISION_KIND_SEMANTIC, asked
        tenant = str(uuid.uuid4())
        complete(chatting, tenant, stored)
        wait_until(lambda: complete(chatting, tenant, stored)[0] == "hit-exact", 10)  # noqa: B023
        assert complete(chatting, tenant, asked) == ("hit-semantic", quote(stored))


def test_farther_paraphrases_are_served_at_a_lower_bound(chatting: Stack) -> None:
    for stored, asked in SAME_BUT_FARTHER:
        decision = lookup(chatting, stored, asked, min_similarity=0.85)
        assert decision.kind == cache_pb2.DECISION_KIND_SEMANTIC, asked


def test_the_probability_says_what_the_rules_know(chatting: Stack) -> None:
    swapped = lookup(chatting, "flights from Paris to London", "flights from London to Paris")
    assert swapped.miss_reason == cache_pb2.MISS_REASON_CONTRADICTS
    assert swapped.probability_correct <= 0.25
    unknown = lookup(chatting, "как включить тёмную тему", "как выключить тёмную тему")
    assert unknown.probability_correct <= 0.5
