import hashlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import openai
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, rag_pb2, rag_pb2_grpc
from tests.language_model import running
from tests.refusals import refusal, refused
from tests.stack import Stack, wait_until_ready

KEYS = {"one": "acme", "two": "umbrella", "chatty": "acme", "bound": "acme"}
SCOPE = cache_pb2.Scope(namespace=str(uuid.uuid4()))


@pytest.fixture(scope="module")
def guarded(redis_url: str, prefix: str, tmp_path_factory: Any) -> Iterator[Stack]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    rows: list[dict[str, Any]] = [
        {"sha256": hashlib.sha256(key.encode()).hexdigest(), "tenant": tenant}
        for key, tenant in KEYS.items()
    ]
    rows[2]["rights"] = ["chat"]
    rows[3] |= {"collections": ["manuals"], "user": "ann", "namespaces": ["app"]}
    file.write_text(json.dumps(rows))
    with running() as model:
        stack = Stack(
            redis_url, prefix, api_keys_file=str(file), llm_base_url=model.url, llm_model="p"
        )
        wait_until_ready(stack)
        yield stack
        stack.close()


class Cache:
    """The cache as a caller with one key sees it."""

    def __init__(self, stack: Stack, key: str) -> None:
        self._stub = cache_pb2_grpc.CacheServiceStub(stack.gateway)
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()

    def __getattr__(self, name: str) -> Any:
        def call(request: Any, timeout: float = 30) -> Any:
            return getattr(self._stub, name)(request, timeout=timeout, metadata=self._metadata)

        return call


def test_the_key_decides_the_tenant(guarded: Stack) -> None:
    one, two = Cache(guarded, "one"), Cache(guarded, "two")
    create = cache_pb2.CreateEntryRequest(scope=SCOPE, prompt="Who?", response="acme's answer")
    entry = one.CreateEntry(create).entry
    assert entry.scope.tenant == "acme"
    lookup = cache_pb2.LookupEntryRequest(scope=SCOPE, prompt="Who?", min_similarity=-1)
    assert one.LookupEntry(lookup).decision.entry.id == entry.id
    assert two.LookupEntry(lookup).decision.kind == cache_pb2.DECISION_KIND_MISS
    get = cache_pb2.GetEntryRequest(scope=SCOPE, id=entry.id)
    assert refusal(two.GetEntry, get)[1] == "ENTRY_NOT_FOUND"
    claimed = cache_pb2.Scope(tenant="acme", namespace=SCOPE.namespace)
    lookup.scope.CopyFrom(claimed)
    assert one.LookupEntry(lookup).decision.entry.id == entry.id
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert refusal(two.LookupEntry, lookup)[:2] == (denied, "OTHER_TENANT")


def test_a_caller_without_key_or_right_is_refused(guarded: Stack) -> None:
    lookup = cache_pb2.LookupEntryRequest(scope=SCOPE, prompt="Who?")
    unknown = (grpc.StatusCode.UNAUTHENTICATED, "UNKNOWN_API_KEY")
    for key in ("", "three"):
        assert refusal(Cache(guarded, key).LookupEntry, lookup)[:2] == unknown
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert refusal(Cache(guarded, "chatty").LookupEntry, lookup)[:2] == (denied, "RIGHT_MISSING")
    rag = rag_pb2_grpc.RagServiceStub(guarded.gateway)
    ask = rag_pb2.AskRequest(collection="x", question="x")
    assert refusal(rag.Ask, ask)[:2] == unknown


def test_the_same_over_http(guarded: Stack) -> None:
    base = f"http://{guarded.http_address}"
    messages = [{"role": "user", "content": str(uuid.uuid4())}]

    def client(key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{base}/v1", api_key=key, max_retries=0)

    with client("chatty") as chatty, client("two") as two, client("three") as three:
        chatty.chat.completions.create(model="p", messages=messages)  # type: ignore[arg-type]
        other = two.chat.completions.with_raw_response.create(model="p", messages=messages)  # type: ignore[arg-type]
        assert other.headers["x-memetwin-cache"] == "miss"
        with pytest.raises(openai.AuthenticationError) as caught:
            three.chat.completions.create(model="p", messages=messages)  # type: ignore[arg-type]
        assert caught.value.code == "unknown_api_key"
        headers = {"X-Memetwin-Tenant": "acme"}
        with pytest.raises(openai.PermissionDeniedError):
            two.chat.completions.create(model="p", messages=messages, extra_headers=headers)  # type: ignore[arg-type]
    bearer = {"Authorization": "Bearer chatty"}
    assert httpx.post(f"{base}/v1/ask", json={}, headers=bearer).status_code == 403
    assert httpx.post(f"{base}/v1/documents", headers=bearer).status_code == 403
    assert httpx.post(f"{base}/v1/twins").status_code == 401
    assert httpx.get(f"{base}/healthz").status_code == httpx.get(base).status_code == 200


def test_a_key_loads_curated_entries_only_into_its_tenant(guarded: Stack) -> None:
    one, two = Cache(guarded, "one"), Cache(guarded, "two")
    entry = cache_pb2.CuratedEntry(prompt="Who wrote it?", response="acme did.")
    load = cache_pb2.LoadEntriesRequest(scope=SCOPE, entries=[entry])
    [reply] = one.LoadEntries(iter([load]))
    assert reply.receipts[0].status == cache_pb2.LOAD_STATUS_CREATED
    lookup = cache_pb2.LookupEntryRequest(scope=SCOPE, prompt="Who wrote it?", min_similarity=-1)
    assert one.LookupEntry(lookup).decision.entry.response == "acme did."
    assert two.LookupEntry(lookup).decision.entry.response != "acme did."
    load.scope.tenant = "acme"
    denied = grpc.StatusCode.PERMISSION_DENIED
    with refused(denied, "OTHER_TENANT"):
        list(two.LoadEntries(iter([load])))
    chatty = Cache(guarded, "chatty")
    with refused(denied, "RIGHT_MISSING"):
        list(chatty.LoadEntries(iter([load])))


def test_a_bound_key_uses_only_its_user_namespace_and_collections(guarded: Stack) -> None:
    bound, one = Cache(guarded, "bound"), Cache(guarded, "one")
    prompt = str(uuid.uuid4())
    created = bound.CreateEntry(cache_pb2.CreateEntryRequest(prompt=prompt, response="ann's"))
    assert (created.entry.scope.user, created.entry.scope.namespace) == ("ann", "app")
    lookup = cache_pb2.LookupEntryRequest(prompt=prompt)
    assert bound.LookupEntry(lookup).decision.entry.response == "ann's"
    assert one.LookupEntry(lookup).decision.kind == cache_pb2.DECISION_KIND_MISS
    denied = grpc.StatusCode.PERMISSION_DENIED
    for reason, scope in (
        ("OTHER_USER", cache_pb2.Scope(user="bob")),
        ("NAMESPACE_NOT_ALLOWED", cache_pb2.Scope(namespace="other")),
    ):
        other = cache_pb2.LookupEntryRequest(scope=scope, prompt=prompt)
        assert refusal(bound.LookupEntry, other)[:2] == (denied, reason)
    rag: Any = rag_pb2_grpc.RagServiceStub(guarded.gateway)
    metadata = (("authorization", "Bearer bound"),)
    questions = [
        rag_pb2.LabelledQuestion(question=f"Why {number}?", answerable=number % 2 == 0)
        for number in range(40)
    ]
    for name, request in (
        ("ListDocuments", rag_pb2.ListDocumentsRequest(collection="letters")),
        ("GetDocument", rag_pb2.GetDocumentRequest(collection="letters", id="x")),
        ("DeleteDocument", rag_pb2.DeleteDocumentRequest(collection="letters", id="x")),
        ("Retrieve", rag_pb2.RetrieveRequest(collection="letters", question="x")),
        ("Ask", rag_pb2.AskRequest(collection="letters", question="x")),
        (
            "Ask",
            rag_pb2.AskRequest(
                collection="manuals", additional_collections=["letters"], question="x"
            ),
        ),
        (
            "CalibrateRefusals",
            rag_pb2.CalibrateRefusalsRequest(collection="letters", questions=questions),
        ),
    ):
        with refused(denied, "COLLECTION_NOT_ALLOWED"):
            getattr(rag, name)(request, metadata=metadata, timeout=60)
    allowed = rag_pb2.ListDocumentsRequest(collection="manuals")
    assert not rag.ListDocuments(allowed, metadata=metadata, timeout=60).documents
    header = rag_pb2.IngestHeader(collection="letters", id="x")
    ingest = rag_pb2.IngestDocumentsRequest(header=header)
    [receipt] = rag.IngestDocuments(iter([ingest]), metadata=metadata, timeout=60)
    assert receipt.status == rag_pb2.RECEIPT_STATUS_FAILED
