"""Documents and pictures of tenants: no tenant reads, changes or notices those of another one."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
import redis

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc, twin_pb2, twin_pb2_grpc
from services.cli.load import DEMO
from tests.documents import ingest_one
from tests.refusals import refusal
from tests.stack import Stack, wait_until_ready

# By API key; "default" is a key of the default tenant, "bound" is bound to a collection.
TENANTS = {"acme": "acme", "globex": "globex", "default": "", "bound": "acme"}
PICTURES = sorted((DEMO / "pictures").iterdir())
TEXT = "{} keeps the otter in the northern pond. It eats trout on Mondays."
QUESTION = "Where does the otter live?"


class Caller:
    """RagService and TwinService as the holder of a key sees them."""

    def __init__(self, stack: Stack, key: str) -> None:
        self.headers = {"Authorization": f"Bearer {key}"}
        self.http = f"http://{stack.http_address}"
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._stubs = (
            rag_pb2_grpc.RagServiceStub(stack.gateway),
            twin_pb2_grpc.TwinServiceStub(stack.gateway),
        )

    def __getattr__(self, name: str) -> Any:
        method = next(getattr(stub, name) for stub in self._stubs if hasattr(stub, name))

        def call(request: Any, timeout: float = 60) -> Any:
            return method(request, timeout=timeout, metadata=self._metadata)

        return call

    def retrieve(self, collection: str = "notes") -> Any:
        return self.Retrieve(rag_pb2.RetrieveRequest(collection=collection, question=QUESTION))

    def add(self, title: str, picture: int) -> Any:
        image = PICTURES[picture].read_bytes()
        return self.AddTwin(twin_pb2.AddTwinRequest(id=title, title=title, image=image)).twin

    def find(self, picture: int, limit: int = 5) -> list[str]:
        request = twin_pb2.FindTwinRequest(image=PICTURES[picture].read_bytes(), limit=limit)
        return [one.title for one in self.FindTwin(request).twins]


@pytest.fixture(scope="module")
def stack(redis_url: str, prefix: str, tmp_path_factory: Any) -> Iterator[Stack]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    rows: list[dict[str, Any]] = [
        {"sha256": hashlib.sha256(key.encode()).hexdigest(), "tenant": tenant}
        for key, tenant in TENANTS.items()
    ]
    rows[3]["collections"] = ["notes"]
    file.write_text(json.dumps(rows))
    stack = Stack(redis_url, f"{prefix}tenants:", api_keys_file=str(file), shared_twins=True)
    wait_until_ready(stack)
    yield stack
    stack.close()


@pytest.fixture(scope="module")
def callers(stack: Stack) -> list[Caller]:
    callers = [Caller(stack, key) for key in ("acme", "globex", "default")]
    for caller, name in zip(callers[:2], ("Acme", "Globex"), strict=True):
        ingest_one(caller, "notes", "a.md", TEXT.format(name))
        ingest_one(caller, "notes", "b.md", f"{name} has a heron.")
    return callers


def test_documents_with_equal_names_are_apart(callers: list[Caller]) -> None:
    acme, globex, default = callers
    request = rag_pb2.GetDocumentRequest(collection="notes", id="a.md")
    assert acme.GetDocument(request).document.text == TEXT.format("Acme")
    assert globex.GetDocument(request).document.text == TEXT.format("Globex")
    assert refusal(default.GetDocument, request)[:2] == (
        grpc.StatusCode.NOT_FOUND,
        "DOCUMENT_NOT_FOUND",
    )
    assert {one.text for one in acme.retrieve().passages} == {
        TEXT.format("Acme"),
        "Acme has a heron.",
    }
    with pytest.raises(grpc.RpcError) as caught:
        default.retrieve()
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as caught:
        acme.retrieve("unknown")
    assert "tenant-" not in str(caught.value)


def test_answers_come_from_the_tenants_own_documents(callers: list[Caller]) -> None:
    for _ in range(2):  # the second answer comes from the cache
        for caller, name in zip(callers[:2], ("Acme", "Globex"), strict=True):
            ask: dict[str, Any] = {"collection": "notes", "question": QUESTION}
            assert name in caller.Ask(rag_pb2.AskRequest(**ask)).answer
            reply = httpx.post(
                f"{caller.http}/v1/ask",
                json=ask,
                headers=caller.headers | {"Accept": "text/event-stream"},
                timeout=60,
            )
            assert name in reply.text
            assert {"Acme": "Globex", "Globex": "Acme"}[name] not in reply.text


def test_a_deletion_leaves_the_document_of_the_other_tenant(callers: list[Caller]) -> None:
    acme, globex, _ = callers
    for caller in (acme, globex):
        ingest_one(caller, "gone", "a.md", "The otter swims.")
    request = rag_pb2.DeleteDocumentRequest(collection="gone", id="a.md")
    assert acme.DeleteDocument(request).chunks == 1
    assert refusal(acme.DeleteDocument, request)[1] == "DOCUMENT_NOT_FOUND"
    assert not acme.retrieve("gone").passages
    assert [one.text for one in globex.retrieve("gone").passages] == ["The otter swims."]


def test_a_calibration_belongs_to_a_tenant(
    callers: list[Caller], redis_url: str, prefix: str
) -> None:
    acme, globex, _ = callers
    questions = [
        rag_pb2.LabelledQuestion(
            question=f"{QUESTION} {number}" if answerable else f"What costs {number} tons of iron?",
            answerable=answerable,
        )
        for number in range(20)
        for answerable in (True, False)
    ]
    request = rag_pb2.CalibrateRefusalsRequest(collection="notes", questions=questions)
    before = globex.retrieve().refusal.min_score
    acme.CalibrateRefusals(request)
    with redis.Redis.from_url(redis_url) as client:
        found = list(client.scan_iter(f"{prefix}tenants:gateway:calibration:*"))
    assert len(found) == 1
    assert b":{/" not in found[0]
    assert globex.retrieve().refusal.min_score == before


def test_page_tokens_belong_to_a_tenant_and_a_list(callers: list[Caller]) -> None:
    acme, globex, _ = callers
    for caller in (acme, globex):
        for title in ("one", "two"):
            caller.add(title, 0)
    lists = (
        ("ListDocuments", rag_pb2.ListDocumentsRequest(collection="notes", page_size=1)),
        ("ListTwins", twin_pb2.ListTwinsRequest(page_size=1)),
    )
    tokens = []
    for name, request in lists:
        request.page_token = getattr(acme, name)(request).next_page_token
        tokens.append(request.page_token)
        assert getattr(acme, name)(request).next_page_token == ""
        invalid = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")
        assert refusal(getattr(globex, name), request)[:2] == invalid
        request.page_token = "a.md"
        assert refusal(getattr(acme, name), request)[:2] == invalid
    lists[1][1].page_token = tokens[0]
    assert refusal(acme.ListTwins, lists[1][1])[1] == "INVALID_PAGE_TOKEN"


def test_twins_are_apart_and_the_default_tenants_are_shared(callers: list[Caller]) -> None:
    acme, globex, default = callers
    acme.add("secret of acme", 1)
    default.add("shared", 2)
    default.add("hidden", 3)
    globex.add("hidden", 4)
    assert "secret of acme" in acme.find(1, 20)
    assert "secret of acme" not in {*globex.find(1, 20), *default.find(1, 20)}
    assert acme.find(2, 1) == globex.find(2, 1) == default.find(2, 1) == ["shared"]
    assert globex.find(3, 20).count("hidden") == 1  # its own twin hides the shared one
    picture = twin_pb2.GetPictureRequest(id="shared")
    assert acme.GetPicture(picture).image == PICTURES[2].read_bytes()
    hidden = twin_pb2.GetPictureRequest(id="hidden")
    assert globex.GetPicture(hidden).image == PICTURES[4].read_bytes()
    assert "shared" not in {one.id for one in acme.ListTwins(twin_pb2.ListTwinsRequest()).twins}


def test_another_tenants_twin_is_like_one_that_does_not_exist(callers: list[Caller]) -> None:
    acme, globex, default = callers
    acme.add("mine", 5)
    for make, name in (
        (twin_pb2.GetPictureRequest, "GetPicture"),
        (twin_pb2.DeleteTwinRequest, "DeleteTwin"),
    ):
        assert refusal(getattr(globex, name), make(id="mine")) == refusal(
            getattr(globex, name), make(id="nothing")
        )
    for caller, status in ((acme, 200), (globex, 404), (default, 404)):
        url = f"{caller.http}/v1/twins/mine/picture"
        reply = httpx.get(url, headers=caller.headers)
        assert reply.status_code == status
        if status == 200:
            assert reply.headers["cache-control"].startswith("private")
    assert refusal(acme.DeleteTwin, twin_pb2.DeleteTwinRequest(id="shared"))[1] == "TWIN_NOT_FOUND"


def test_a_key_may_be_bound_to_collections(callers: list[Caller], stack: Stack) -> None:
    bound = Caller(stack, "bound")
    denied = (grpc.StatusCode.PERMISSION_DENIED, "COLLECTION_NOT_ALLOWED")
    assert bound.retrieve("notes").passages
    for name, request in (
        ("Retrieve", rag_pb2.RetrieveRequest(collection="gone", question="?")),
        (
            "Ask",
            rag_pb2.AskRequest(collection="notes", additional_collections=["gone"], question="?"),
        ),
        ("GetDocument", rag_pb2.GetDocumentRequest(collection="gone", id="a.md")),
        ("DeleteDocument", rag_pb2.DeleteDocumentRequest(collection="gone", id="a.md")),
        ("ListDocuments", rag_pb2.ListDocumentsRequest(collection="gone")),
    ):
        assert refusal(getattr(bound, name), request)[:2] == denied
    receipt = ingest_one(bound, "gone", "b.md", "text")
    assert receipt.reason == "COLLECTION_NOT_ALLOWED"
