from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import pytest

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc
from services.cli import ingestion
from services.cli.ingestion import Upload, send


@grpc.Call.register
class RpcError(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


class FakeService:
    """Returns a receipt for each document; each call fails after some of them, as planned."""

    def __init__(self, *plan: tuple[int, grpc.StatusCode]) -> None:
        self._plan = iter(plan)
        self.calls: list[list[str]] = []
        self.contents: dict[str, list[bytes]] = {}

    def IngestDocuments(  # noqa: N802
        self, requests: Iterable[rag_pb2.IngestDocumentsRequest], **options: Any
    ) -> Iterator[rag_pb2.IngestDocumentsResponse]:
        stop, code = next(self._plan, (-1, grpc.StatusCode.OK))
        ids: list[str] = []
        self.calls.append(ids)
        for request in requests:
            if request.WhichOneof("part") == "header":
                ids.append(request.header.id)
                self.contents[request.header.id] = []
            else:
                self.contents[ids[-1]].append(request.content)
        for number, name in enumerate(ids):
            if number == stop:
                raise RpcError(code)
            yield rag_pb2.IngestDocumentsResponse(id=name)


def uploads(*names: str, content: bytes = b"text") -> list[Upload]:
    return [Upload(rag_pb2.IngestHeader(id=name), lambda: content) for name in names]


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestion, "RETRY_DELAY", 0)


def run(monkeypatch: pytest.MonkeyPatch, service: FakeService, sent: list[Upload]) -> list[str]:
    monkeypatch.setattr(rag_pb2_grpc, "RagServiceStub", lambda channel: service)
    channel: Any = None
    return [receipt.id for receipt in send(channel, sent, "documents")]


def test_each_document_gets_its_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    service = FakeService()
    assert run(monkeypatch, service, uploads("a", "b")) == ["a", "b"]
    assert service.calls == [["a", "b"]]


def test_a_large_document_is_sent_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    service = FakeService()
    content = bytes(2 * ingestion.CHUNK_BYTES + 1)
    run(monkeypatch, service, uploads("a", content=content))
    assert [len(chunk) for chunk in service.contents["a"]] == [2**20, 2**20, 1]


def test_a_broken_stream_resumes_after_the_last_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    service = FakeService((1, grpc.StatusCode.UNAVAILABLE), (1, grpc.StatusCode.UNAVAILABLE))
    assert run(monkeypatch, service, uploads("a", "b", "c")) == ["a", "b", "c"]
    assert service.calls == [["a", "b", "c"], ["b", "c"], ["c"]]


def test_it_gives_up_when_no_receipt_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    service = FakeService(*[(0, grpc.StatusCode.UNAVAILABLE)] * 20)
    with pytest.raises(grpc.RpcError):
        run(monkeypatch, service, uploads("a"))
    assert len(service.calls) == ingestion.MAX_RETRIES + 1


def test_a_refusal_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    service = FakeService((0, grpc.StatusCode.UNAUTHENTICATED))
    with pytest.raises(grpc.RpcError):
        run(monkeypatch, service, uploads("a"))
    assert len(service.calls) == 1


def unreadable(name: str) -> Upload:
    def read() -> bytes:
        raise PermissionError(13, "Permission denied")

    return Upload(rag_pb2.IngestHeader(id=name), read)


def test_an_unreadable_file_gets_a_receipt_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    service = FakeService()
    [a, b] = uploads("a", "b")
    sent = [unreadable("x"), a, unreadable("y"), b, unreadable("z")]
    monkeypatch.setattr(rag_pb2_grpc, "RagServiceStub", lambda channel: service)
    channel: Any = None
    receipts = list(send(channel, sent, "documents"))
    assert [one.id for one in receipts] == ["x", "a", "y", "b", "z"]
    failed = [one.status == rag_pb2.RECEIPT_STATUS_FAILED for one in receipts]
    assert failed == [True, False, True, False, True]
    assert receipts[0].message == "The file cannot be read: Permission denied."
    assert service.calls == [["a", "b"]]


def test_a_broken_stream_resumes_beside_unreadable_files(monkeypatch: pytest.MonkeyPatch) -> None:
    service = FakeService((1, grpc.StatusCode.UNAVAILABLE))
    [a, b, c] = uploads("a", "b", "c")
    sent = [a, unreadable("x"), b, unreadable("y"), c]
    assert run(monkeypatch, service, sent) == ["a", "x", "b", "y", "c"]
    assert service.calls == [["a", "b", "c"], ["b", "c"]]


def test_only_unreadable_files_are_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, FakeService(), [unreadable("x")]) == ["x"]
