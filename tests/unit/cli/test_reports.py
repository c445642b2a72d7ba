from memetwin.gateway.v1 import rag_pb2
from services.cli.reports import Report


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
    assert report.receipts == ["created: a", "updated: b", "unchanged: c"]
    assert not report.failed


def test_warnings_name_their_document() -> None:
    one = rag_pb2.IngestDocumentsResponse(id="a", warnings=["1 page is empty"])
    assert Report("documents").add([one]).warnings == ["a: 1 page is empty"]


def test_a_load_fails_if_nothing_of_it_is_there() -> None:
    assert Report("pictures", problems=["a: broken"]).failed
    assert not Report("pictures", unchanged=1, problems=["a: broken"]).failed
    assert not Report("pictures").failed


def test_skipped_and_removed_items_are_counted() -> None:
    report = Report("documents")
    report.skip("a.png", "pictures")
    report.skip("b.png", "pictures")
    report.skipped["hidden"] = 3
    report.record("c.md", "removed")
    assert report.summary() == (
        "documents: 0 loaded, 0 unchanged, 0 failed, 1 removed, 5 skipped (3 hidden, 2 pictures)"
    )
    assert report.receipts == [
        "skipped: a.png: pictures",
        "skipped: b.png: pictures",
        "removed: c.md",
    ]
