"""RagService over the demo's documents."""

import uuid
from typing import Any

import pytest

from memetwin.gateway.v1 import cache_pb2, rag_pb2, rag_pb2_grpc
from memetwin.search.v1 import search_pb2
from services.cli.load import DEMO, load_texts
from tests.documents import ingest_one
from tests.refusals import refusal
from tests.stack import Stack, wait_until

MISS, EXACT = cache_pb2.DECISION_KIND_MISS, cache_pb2.DECISION_KIND_EXACT


@pytest.fixture(scope="module")
def rag(stack: Stack) -> rag_pb2_grpc.RagServiceStub:
    load_texts(stack.gateway, DEMO / "memes.jsonl")
    return rag_pb2_grpc.RagServiceStub(stack.gateway)


def ask(rag: Any, question: str, **options: Any) -> Any:
    fields: dict[str, Any] = {"collection": "memes"} | options
    fields.setdefault("scope", cache_pb2.Scope(namespace=str(uuid.uuid4())))
    return rag.Ask(rag_pb2.AskRequest(question=question, **fields), timeout=60)


def test_an_answer_quotes_the_demo_documents(rag: Any) -> None:
    reply = ask(rag, "Where was the house of Disaster Girl burned?")
    assert reply.writer == rag_pb2.WRITER_EXTRACTIVE
    assert "Mebane" in reply.answer
    assert reply.answer.startswith("No language model is set")
    assert reply.citations[0].document == "disaster-girl"
    for citation in reply.citations:
        source = rag.GetDocument(
            rag_pb2.GetDocumentRequest(collection="memes", id=citation.document)
        ).document
        quote = source.text[citation.source_start : citation.source_end]
        assert citation.quote == quote == reply.answer[citation.start : citation.end]
        assert citation.document_version == source.version


def test_a_question_that_nothing_answers_is_refused(rag: Any) -> None:
    reply = ask(rag, "What is the boiling point of tungsten?")
    assert reply.refusal.reason == rag_pb2.REFUSAL_REASON_NO_RELEVANT_CONTEXT
    assert reply.refusal.best_score < 0.4
    assert not reply.answer


def test_answers_are_cached_until_their_documents_change(rag: Any) -> None:
    scope = cache_pb2.Scope(namespace=str(uuid.uuid4()))
    name = f"notes-{uuid.uuid4()}"

    def ingest(text: str) -> Any:
        return ingest_one(rag, name, "note", text)

    def again() -> Any:
        return ask(rag, "What colour is the door?", scope=scope, collection=name)

    assert ingest("The colour of the door is blue.").status == rag_pb2.RECEIPT_STATUS_CREATED
    assert "blue" in again().answer
    wait_until(lambda: again().decision.kind == EXACT)
    unchanged = ingest("The colour of the door is blue.")
    assert (unchanged.status, unchanged.embedded) == (rag_pb2.RECEIPT_STATUS_UNCHANGED, 0)
    assert again().decision.kind == EXACT
    assert ingest("The colour of the door is red.").status == rag_pb2.RECEIPT_STATUS_UPDATED
    changed = again()
    assert changed.decision.kind == MISS
    assert "red" in changed.answer
    rag.DeleteDocument(rag_pb2.DeleteDocumentRequest(collection=name, id="note"))
    assert again().HasField("refusal")


def test_passages_meet_the_filter(rag: Any) -> None:
    before = search_pb2.NumberCondition(
        field="year", op=search_pb2.NUMBER_OPERATOR_LT, values=[2005]
    )
    reply = rag.Retrieve(
        rag_pb2.RetrieveRequest(
            collection="memes",
            question="a dancing baby",
            filter=search_pb2.Filter(number=before),
            limit=5,
        )
    )
    assert reply.passages[0].document_id == "dancing-baby"
    assert all(passage.fields["year"].number < 2005 for passage in reply.passages)
    assert list(reply.passages) == sorted(reply.passages, key=lambda one: -one.score)


def test_documents_are_listed_and_paged(rag: Any) -> None:
    seen, token = [], ""
    while True:
        reply = rag.ListDocuments(
            rag_pb2.ListDocumentsRequest(collection="memes", page_size=20, page_token=token)
        )
        seen += [document.id for document in reply.documents]
        token = reply.next_page_token
        if not token:
            break
    assert len(seen) >= 60
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("content", "header", "reason"),
    [
        (b"\xff\xfe broken", {}, "NOT_UTF8"),
        ("   \n ", {}, "EMPTY_DOCUMENT"),
        ("text", {"media_type": "application/zip"}, "UNKNOWN_MEDIA_TYPE"),
    ],
)
def test_bad_documents_get_a_failed_receipt(
    rag: Any, content: Any, header: Any, reason: str
) -> None:
    receipt = ingest_one(rag, "bad", "x", content, **header)
    assert (receipt.status, receipt.reason) == (rag_pb2.RECEIPT_STATUS_FAILED, reason)


def test_bad_questions_are_refused(rag: Any) -> None:
    def why(**fields: Any) -> str:
        return refusal(rag.Ask, rag_pb2.AskRequest(**{"collection": "memes"} | fields))[1]

    assert why(question="") == "EMPTY_QUESTION"
    assert why(question="x", collection="nowhere") == "COLLECTION_NOT_FOUND"
    assert why(question="x", collection="a b") == "BAD_COLLECTION_NAME"
    assert why(question="x", limit=5000) == "BAD_LIMIT"
    assert why(question="x", model="gpt") == "NO_LANGUAGE_MODEL"
