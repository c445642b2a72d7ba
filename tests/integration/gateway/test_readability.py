"""Texts that MiniLM does not read: they get no answer of another text."""

import json
import urllib.error
import urllib.request
import uuid
from typing import Any

import pytest

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from tests.stack import Stack

UNREADABLE = cache_pb2.MISS_REASON_UNREADABLE
CONTRADICTS = cache_pb2.MISS_REASON_CONTRADICTS
ON_AND_OFF = [
    ("如何打开暗模式", "如何关闭暗模式"),
    ("パスワードを変更する方法", "パスワードを削除する方法"),
    ("비밀번호를 바꾸는 방법", "비밀번호를 찾는 방법"),
    ("ยกเลิกคำสั่งซื้อ", "เปลี่ยนที่อยู่จัดส่ง"),
    ("👍", "👎"),
    ("ሰላም", "ቡና"),
    ("как включить тёмную тему", "как выключить тёмную тему"),
    ("Πώς ενεργοποιώ τη σκούρα λειτουργία;", "Πώς απενεργοποιώ τη σκούρα λειτουργία;"),
    ("كيف أفعل الوضع الداكن؟", "كيف أعطل الوضع الداكن؟"),
    ("איך מפעילים מצב כהה?", "איך מכבים מצב כהה?"),
    ("डार्क मोड कैसे चालू करें?", "डार्क मोड कैसे बंद करें?"),
    ("តើខ្ញុំបើករបៀបងងឹតយ៉ាងដូចម្តេច", "តើខ្ញុំបិទរបៀបងងឹតយ៉ាងដូចម្តេច"),
]
READ = [
    "?", "A1", "4711", "kT9xQ2", "ERR_CONN_RESET", "https://example.com/a/b?c=d", "x = y + 1",
    "Thanks 👍 how do I reset my password? 🙏", "I’m locked out of my café account – why?",
    "Wie schalte ich den Dunkelmodus ein?", "Où est ma commande ?", "¿Cómo activo el modo oscuro?",
]  # fmt: skip
# All clauses together have more tokens than MiniLM reads.
CLAUSES = " ".join(f"Clause {n}: goods of class {n} arrive within {n + 1} days." for n in range(40))


@pytest.fixture(scope="module")
def cache(stack: Stack) -> Any:
    return cache_pb2_grpc.CacheServiceStub(stack.gateway)


@pytest.fixture(scope="module")
def embedder(stack: Stack) -> Any:
    return embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)


@pytest.fixture
def scope() -> cache_pb2.Scope:
    return cache_pb2.Scope(tenant=str(uuid.uuid4()))


def store(cache: Any, scope: Any, prompt: str, **fields: Any) -> Any:
    request = cache_pb2.CreateEntryRequest(scope=scope, prompt=prompt, response="Yes.", **fields)
    return cache.CreateEntry(request).entry


def lookup(cache: Any, scope: Any, prompt: str, **bound: Any) -> tuple[str, int]:
    request = cache_pb2.LookupEntryRequest(scope=scope, prompt=prompt, **bound)
    decision = cache.LookupEntry(request).decision
    return cache_pb2.DecisionKind.Name(decision.kind).rpartition("_")[2], decision.miss_reason


@pytest.mark.parametrize(("kept", "asked"), ON_AND_OFF)
@pytest.mark.parametrize("bound", [{}, {"min_similarity": -1}, {"max_error_rate": 0.9}])
def test_a_prompt_that_is_not_read_is_answered_only_for_itself(
    cache: Any, scope: Any, kept: str, asked: str, bound: dict[str, float]
) -> None:
    store(cache, scope, kept)
    assert lookup(cache, scope, kept, **bound) == ("EXACT", 0)
    assert lookup(cache, scope, asked, **bound) == ("MISS", UNREADABLE)


def test_an_indexed_prompt_is_not_served_to_one_that_is_not_read(
    cache: Any, embedder: Any, scope: Any
) -> None:
    """Earlier versions indexed prompts that the model does not read."""
    made = embedder.Embed(
        embedder_pb2.EmbedRequest(
            inputs=[embedder_pb2.Input(text="ยกเลิกคำสั่งซื้อ")], task=embedder_pb2.TASK_QUERY
        )
    )
    vector = {"vector": made.vectors, "model_digest": made.model_digest}
    store(cache, scope, "ยกเลิกคำสั่งซื้อ", **vector)
    assert lookup(cache, scope, "เปลี่ยนที่อยู่จัดส่ง") == ("MISS", UNREADABLE)
    by_vector = cache_pb2.LookupEntryRequest(
        scope=scope, mode=cache_pb2.LOOKUP_MODE_SEMANTIC, **vector
    )
    assert cache.LookupEntry(by_vector).decision.kind == cache_pb2.DECISION_KIND_SEMANTIC


@pytest.mark.parametrize("prompt", READ)
def test_codes_and_latin_script_are_read(embedder: Any, prompt: str) -> None:
    reply = embedder.Embed(embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(text=prompt)]))
    assert reply.readings[0].readable
    assert (reply.readings[0].end, reply.readings[0].cut) == (len(prompt), 0)


def test_english_with_emoji_still_has_semantic_hits(cache: Any, scope: Any) -> None:
    store(cache, scope, "How do I reset my password? 🙏")
    found = lookup(cache, scope, "How can I reset my password? 🙏", min_similarity=0.8)
    assert found[0] == "SEMANTIC"


@pytest.mark.parametrize("bound", [{"min_similarity": 0.5}, {"max_error_rate": 0.9}])
@pytest.mark.parametrize(
    ("kept", "asked"),
    [
        ("How do I say 打开 in English?", "How do I say 关闭 in English?"),
        ("What does включить mean?", "What does выключить mean?"),
        ("Is 👍 rude?", "Is 👎 rude?"),
    ],
)
def test_words_that_are_not_read_must_agree(
    cache: Any, scope: Any, kept: str, asked: str, bound: dict[str, float]
) -> None:
    store(cache, scope, kept)
    assert lookup(cache, scope, asked, **bound) == ("MISS", CONTRADICTS)


@pytest.mark.parametrize("bound", [{}, {"min_similarity": 0.5}, {"max_error_rate": 0.9}])
def test_prompts_must_agree_beyond_the_cut(cache: Any, scope: Any, bound: dict[str, float]) -> None:
    store(cache, scope, f"{CLAUSES} Who delivers the goods?")
    assert lookup(cache, scope, f"{CLAUSES} Who pays for the goods?", **bound)[0] == "MISS"
    assert lookup(cache, scope, CLAUSES, **bound)[0] == "MISS"
    same = f"{CLAUSES}  who delivers the  goods?"
    if bound.get("min_similarity"):
        assert lookup(cache, scope, same, **bound)[0] == "SEMANTIC"


def test_get_model_says_what_a_model_reads(embedder: Any) -> None:
    found = embedder.GetModel(embedder_pb2.GetModelRequest()).model.readability
    read = {one.language for one in found.languages if one.readable}
    assert read == {
        "English", "German", "French", "Spanish", "Portuguese", "Dutch", "Polish", "Turkish"
    }  # fmt: skip
    assert {"CYRILLIC", "CJK", "HANGUL", "HIRAGANA", "THAI", "ETHIOPIC"} <= {*found.unread_scripts}
    assert 1.1 < found.min_characters_per_token < 1.7
    assert found.max_unread_share == 0.5


def embeddings(stack: Stack, given: Any, **headers: str) -> tuple[int, Any, Any]:
    request = urllib.request.Request(
        f"http://{stack.http_address}/v1/embeddings",
        json.dumps({"input": given}).encode(),
        {"Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.headers, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.load(error)


def test_embeddings_count_or_refuse_inputs_that_are_cut(stack: Stack) -> None:
    status, headers, _ = embeddings(stack, ["short", CLAUSES, CLAUSES + " More."])
    assert (status, headers["X-Memetwin-Truncated-Inputs"]) == (200, "2")
    refuse = {"X-Memetwin-Truncate": "false"}
    status, headers, body = embeddings(stack, ["short", "short too"], **refuse)
    assert (status, headers["X-Memetwin-Truncated-Inputs"]) == (200, "0")
    status, _, body = embeddings(stack, ["short", CLAUSES], **refuse)
    error = body["error"]
    assert (status, error["param"], error["code"]) == (400, "input", "text_too_long")
    assert "256 tokens" in error["message"]
    assert "X-Memetwin-Truncate" in error["message"]


def test_an_empty_input_names_the_parameter_of_openai(stack: Stack) -> None:
    status, _, body = embeddings(stack, ["", "x"])
    assert (status, body["error"]["param"]) == (400, "input")
