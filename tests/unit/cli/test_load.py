from memetwin.gateway.v1 import rag_pb2
from services.cli.load import Report


def receipt(name: str, status: str) -> rag_pb2.IngestDocumentsResponse:
    return rag_pb2.IngestDocumentsResponse(
        id=name, status=rag_pb2.ReceiptStatus.Value(f"RECEIPT_STATUS_{status}")
    )


def test_a_report_counts_receipts_by_their_status() -> None:
    failed = receipt("d", "FAILED")
    failed.message, failed.reason = "Broken.", "BAD_PDF"
    report = Report("documents").add(
        [
            receipt("a", "CREATED"),
            receipt("b", "UPDATED"),
            receipt("c", "UNCHANGED"),
            failed,
        ]
    )
    assert report.summary() == "documents: 2 loaded, 1 unchanged, 1 failed"
    assert report.problems == ["d: Broken. (BAD_PDF)"]
    assert not report.failed


def test_warnings_name_their_document() -> None:
    one = rag_pb2.IngestDocumentsResponse(id="a", warnings=["1 page is empty"])
    assert Report("documents").add([one]).warnings == ["a: 1 page is empty"]


def test_a_load_fails_if_nothing_of_it_is_there() -> None:
    assert Report("pictures", problems=["a: broken"]).failed
    assert not Report("pictures", unchanged=1, problems=["a: broken"]).failed
    assert not Report("pictures").failed
