"""Documents over HTTP."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc
from memetwin.search.v1 import search_pb2
from tests.documents import read
from tests.pdf import pdf
from tests.stack import Stack, wait_until_ready

FIELDS = {"year": 2012, "tags": ["fish", "river"], "place": {"lat": 48.2, "lon": 16.4}}


@pytest.fixture(scope="module")
def web(stack: Stack) -> Iterator[httpx.Client]:
    wait_until_ready(stack)
    with httpx.Client(base_url=f"http://{stack.http_address}", timeout=60) as client:
        yield client


@pytest.fixture
def rag(stack: Stack) -> Any:
    return rag_pb2_grpc.RagServiceStub(stack.gateway)


@pytest.fixture
def name() -> str:
    return f"uploads-{uuid.uuid4()}"


def test_the_files_of_a_form_are_ingested(web: httpx.Client, rag: Any, name: str) -> None:
    files = [
        ("file", ("a.pdf", pdf([["The otter swims in the river."]]), "application/pdf")),
        ("file", ("notes/b.md", b"# Herons\n\nThe heron waits.\n", "application/octet-stream")),
        ("file", ("broken.pdf", b"%PDF-1.7\nno more", "application/pdf")),
    ]
    data = {"collection": name, "fields": json.dumps(FIELDS)}
    reply = web.post("/v1/documents", data=data, files=files)
    assert reply.status_code == 200
    receipts = reply.json()["receipts"]
    assert [(one["id"], one["status"]) for one in receipts] == [
        ("a.pdf", "RECEIPT_STATUS_CREATED"),
        ("notes/b.md", "RECEIPT_STATUS_CREATED"),
        ("broken.pdf", "RECEIPT_STATUS_FAILED"),
    ]
    assert receipts[2]["reason"] == "BROKEN_PDF"
    assert read(rag, name, "notes/b.md").title == "Herons"
    fields = read(rag, name, "a.pdf").fields
    assert (fields["year"].number, fields["place"].geo.lat) == (2012, 48.2)
    river = search_pb2.TagCondition(field="tags", any_of=["river"])
    request = rag_pb2.RetrieveRequest(
        collection=name, question="Who swims?", filter=search_pb2.Filter(tag=river)
    )
    assert rag.Retrieve(request, timeout=60).passages[0].document_id == "a.pdf"
    again = web.post("/v1/documents", data=data, files=files).json()["receipts"]
    assert [one["status"] for one in again][:2] == ["RECEIPT_STATUS_UNCHANGED"] * 2
    assert sum(one["embedded"] for one in again) == 0


def test_a_body_is_ingested_as_a_document(web: httpx.Client, rag: Any, name: str) -> None:
    reply = web.post(
        "/v1/documents",
        params={"collection": name, "id": "a", "title": "Otters"},
        content=b"<p>The otter swims.",
        headers={"Content-Type": "text/html; charset=utf-8"},
    )
    [receipt] = reply.json()["receipts"]
    assert receipt["status"] == "RECEIPT_STATUS_CREATED"
    stored = read(rag, name, "a")
    assert (stored.title, stored.text.strip(), stored.media_type) == (
        "Otters",
        "The otter swims.",
        "text/html",
    )


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({"data": {"collection": "x"}, "files": {"other": b"x"}}, "NO_FILE"),
        ({"data": {"fields": "[1]"}, "files": {"file": b"x"}}, "BAD_FIELDS"),
        ({"data": {"fields": '{"a": true}'}, "files": {"file": b"x"}}, "BAD_FIELDS"),
        (
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}},
            "BAD_FORM",
        ),
    ],
)
def test_invalid_requests_are_refused(web: httpx.Client, sent: Any, reason: str) -> None:
    reply = web.post("/v1/documents", **sent)
    assert (reply.status_code, reply.json()["error"]["reason"]) == (400, reason)


def test_an_invalid_name_is_a_failed_receipt(web: httpx.Client) -> None:
    reply = web.post("/v1/documents", params={"collection": "no name", "id": "a"}, content=b"x")
    [receipt] = reply.json()["receipts"]
    assert (receipt["status"], receipt["reason"]) == (
        "RECEIPT_STATUS_FAILED",
        "BAD_COLLECTION_NAME",
    )
    assert (reply.status_code, reply.json()["error"]["reason"]) == (400, "BAD_COLLECTION_NAME")
