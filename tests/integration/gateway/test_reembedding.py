"""After the text model has changed on a running system, stored texts are found again."""

import functools
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, rag_pb2, rag_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.gateway.cache import index
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.reembedding import service
from tests.documents import ingest_one
from tests.small_models import sentence_model
from tests.stack import Stack, wait_until, wait_until_ready

SCOPE = cache_pb2.Scope(tenant="t")
# The small models know only letters.
PROMPTS = [f"question {one}{other}" for one in "abcdefg" for other in "hijklmnopq"]
DOCUMENTS = {f"note {number}": f"word {number}\n\n" + "some text " * 60 for number in range(30)}


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    return [sentence_model(tmp_path / str(seed), seed) for seed in range(3)]


@contextmanager
def running(redis_url: str, prefix: str, model: str, **settings: Any) -> Iterator[Stack]:
    stack = Stack(redis_url, prefix, {"text_model": model}, **settings)
    try:
        wait_until_ready(stack)
        yield stack
    finally:
        stack.close()


@pytest.fixture
def own_prefix(prefix: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(service, "CHECK_SECONDS", 0.05)
    return f"{prefix}{uuid.uuid4()}:"


def fill(stack: Stack) -> None:
    cache = cache_pb2_grpc.CacheServiceStub(stack.gateway)
    for prompt in PROMPTS:
        create = cache_pb2.CreateEntryRequest(scope=SCOPE, prompt=prompt, response=prompt)
        cache.CreateEntry(create)
    cache.CreateEntry(
        cache_pb2.CreateEntryRequest(
            scope=SCOPE, prompt="and there", context=CONVERSATION, response="in a conversation"
        )
    )
    rag = rag_pb2_grpc.RagServiceStub(stack.gateway)
    for key, text in DOCUMENTS.items():
        ingest_one(rag, "notes", key, text, title=key)
    ingest_one(rag, "other", "only", "one more text")


CONVERSATION = cache_pb2.RequestContext(
    history=[cache_pb2.Message(role="user", content="is it cold here")]
)


def lookup(stack: Stack, prompt: str, context: Any = None) -> Any:
    request = cache_pb2.LookupEntryRequest(
        scope=SCOPE,
        prompt=prompt,
        context=context,
        mode=cache_pb2.LOOKUP_MODE_SEMANTIC,
        min_similarity=0.99,
    )
    return cache_pb2_grpc.CacheServiceStub(stack.gateway).LookupEntry(request).decision


def retrieve(stack: Stack, question: str, collection: str = "notes") -> list[str]:
    request = rag_pb2.RetrieveRequest(collection=collection, question=question, limit=100)
    found = rag_pb2_grpc.RagServiceStub(stack.gateway).Retrieve(request)
    return [passage.document_id for passage in found.passages]


def collections(stack: Stack) -> dict[str, search_pb2.Collection]:
    search = search_pb2_grpc.SearchServiceStub(stack.search)
    names = [f"documents-{name}" for name in ("notes", "other")]
    return {
        name: search.GetCollection(search_pb2.GetCollectionRequest(name=name)).collection
        for name in names
    }


def digest(stack: Stack) -> str:
    stub = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)
    return str(stub.GetModel(embedder_pb2.GetModelRequest()).model.digest)


@pytest.fixture
def is_complete(redis_url: str, own_prefix: str) -> Iterator[Callable[[Stack], bool]]:
    client = redis.Redis.from_url(redis_url)
    key = f"{own_prefix}gateway:text_model"
    yield lambda stack: client.get(key) == digest(stack).encode()
    client.close()


def test_what_was_stored_is_found_by_the_next_models(
    redis_url: str, own_prefix: str, models: list[str], is_complete: Any
) -> None:
    with running(redis_url, own_prefix, models[0]) as stack:
        fill(stack)
        before = {name: one.document_count for name, one in collections(stack).items()}
        earlier = [digest(stack)]
    for model in models[1:]:  # the second change replaces a copy
        with running(redis_url, own_prefix, model) as stack:
            wait_until(lambda: is_complete(stack))
            for prompt in PROMPTS:
                assert lookup(stack, prompt).similarity > 0.999  # its own entry, or an equal one
            conversation = lookup(stack, "and there", CONVERSATION)
            assert conversation.entry.response == "in a conversation"
            counts = {name: one.document_count for name, one in collections(stack).items()}
            assert counts == before
            assert set(retrieve(stack, "word")) == set(DOCUMENTS)
            assert retrieve(stack, "one more text", "other") == ["only"]
            assert_gone(stack, earlier)
            earlier.append(digest(stack))
            rag = rag_pb2_grpc.RagServiceStub(stack.gateway)
            changed = ingest_one(rag, "notes", "note 0", DOCUMENTS["note 0"], title="note 0")
            assert changed.status == rag_pb2.RECEIPT_STATUS_UNCHANGED


def assert_gone(stack: Stack, digests: list[str]) -> None:
    """No collection of an earlier model is left."""
    search = search_pb2_grpc.SearchServiceStub(stack.search)
    for earlier in digests:
        names = [*index.collection_names(earlier), f"reembedded-{earlier[:12]}-notes"]
        wait_until(functools.partial(are_gone, search, names))


def are_gone(search: Any, names: list[str]) -> bool:
    return all(code_of(search, name) == grpc.StatusCode.NOT_FOUND for name in names)


def code_of(search: Any, name: str) -> grpc.StatusCode:
    call = search.GetCollection.future(search_pb2.GetCollectionRequest(name=name))
    code: grpc.StatusCode = call.code()
    return code


def test_an_ingest_between_the_two_steps_of_a_swap_adopts_the_copy(
    redis_url: str, own_prefix: str, models: list[str], is_complete: Any
) -> None:
    with running(redis_url, own_prefix, models[0]) as stack:
        fill(stack)
        before = collections(stack)["documents-notes"].document_count
    with running(redis_url, own_prefix, models[1]) as stack:
        wait_until(lambda: is_complete(stack))
        search = search_pb2_grpc.SearchServiceStub(stack.search)
        search.DeleteAlias(search_pb2.DeleteAliasRequest(alias="documents-notes"))
        rag = rag_pb2_grpc.RagServiceStub(stack.gateway)
        assert ingest_one(rag, "notes", "new", "some words", title="new").chunks == 1
        found = collections(stack)["documents-notes"]
        assert found.name == DocumentCollection("notes").copy_name(digest(stack))
        assert found.document_count == before + 1
        assert set(retrieve(stack, "word")) == {*DOCUMENTS, "new"}
        request = rag_pb2.DeleteDocumentRequest(collection="notes", id="new")
        rag.DeleteDocument(request)
        assert collections(stack)["documents-notes"].document_count == before


def test_a_callers_vector_stays_with_its_model(
    redis_url: str, own_prefix: str, models: list[str], is_complete: Any
) -> None:
    with running(redis_url, own_prefix, models[0]) as stack:
        embed = embedder_pb2.EmbedRequest(inputs=[embedder_pb2.Input(text="of the caller")])
        made = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder).Embed(embed)
        create = cache_pb2.CreateEntryRequest(
            scope=SCOPE,
            prompt="some prompt",
            response="hers",
            vector=made.vectors,
            model_digest=made.model_digest,
        )
        cache_pb2_grpc.CacheServiceStub(stack.gateway).CreateEntry(create)
        create = cache_pb2.CreateEntryRequest(scope=SCOPE, prompt="other", response="other")
        cache_pb2_grpc.CacheServiceStub(stack.gateway).CreateEntry(create)
    with running(redis_url, own_prefix, models[1]) as stack:
        wait_until(lambda: is_complete(stack))
        assert lookup(stack, "other").entry.response == "other"
        request = cache_pb2.LookupEntryRequest(
            scope=SCOPE, vector=made.vectors, model_digest=made.model_digest, min_similarity=0.99
        )
        decision = cache_pb2_grpc.CacheServiceStub(stack.gateway).LookupEntry(request).decision
        assert decision.entry.response == "hers"
        assert pending()[0] == 1


def test_without_reembedding_what_was_stored_is_counted(
    redis_url: str, own_prefix: str, models: list[str], is_complete: Any
) -> None:
    with running(redis_url, own_prefix, models[0]) as stack:
        fill(stack)
        chunks = sum(one.document_count for one in collections(stack).values())
    with running(redis_url, own_prefix, models[1], reembed=False) as stack:
        wait_until(lambda: pending() == (71, chunks))
        assert lookup(stack, PROMPTS[0]).kind == cache_pb2.DECISION_KIND_MISS
    with running(redis_url, own_prefix, models[1]) as stack:  # it was switched on later
        wait_until(lambda: is_complete(stack))


def pending() -> tuple[float, float]:
    entries, chunks = (service.PENDING.labels(kind) for kind in ("entries", "chunks"))
    return entries._value.get(), chunks._value.get()
