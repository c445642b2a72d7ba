import uuid
from typing import Any

import pytest
from prometheus_client import REGISTRY

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests.corpus import ANIMALS, PAGES, corpus, note, page
from tests.documents import ingest, ingest_one, read
from tests.pdf import pdf
from tests.stack import Stack

CREATED, UPDATED, UNCHANGED, FAILED = (
    rag_pb2.RECEIPT_STATUS_CREATED,
    rag_pb2.RECEIPT_STATUS_UPDATED,
    rag_pb2.RECEIPT_STATUS_UNCHANGED,
    rag_pb2.RECEIPT_STATUS_FAILED,
)


@pytest.fixture(scope="module")
def rag(stack: Stack) -> rag_pb2_grpc.RagServiceStub:
    return rag_pb2_grpc.RagServiceStub(stack.gateway)


@pytest.fixture
def name() -> str:
    return f"documents-{uuid.uuid4()}"


def retrieve(rag: Any, name: str, question: str, **more: Any) -> Any:
    request = rag_pb2.RetrieveRequest(collection=name, question=question, **more)
    return rag.Retrieve(request, timeout=60)


def embedded_inputs() -> float:
    """Return how many inputs the embedder in this process has received."""
    labels = {"model": "all-MiniLM-L6-v2"}
    return REGISTRY.get_sample_value("memetwin_embed_inputs_total", labels) or 0.0


def test_only_what_has_changed_is_embedded_again(rag: Any, name: str) -> None:
    """300 pages, 1,000 Markdown files and a broken PDF; then again; then with one page changed."""
    pages = [page(number) for number in range(PAGES)]
    documents = corpus(pages)
    receipts = ingest(rag, name, documents)
    assert [one.id for one in receipts] == [one["id"] for one in documents]
    assert [one.id for one in receipts if one.status == FAILED] == ["broken.pdf"]
    assert receipts[1].reason == "BROKEN_PDF"
    assert {one.status for one in receipts if one.id != "broken.pdf"} == {CREATED}
    assert (receipts[0].chunks, receipts[0].embedded) == (300, 300)
    text = read(rag, name, "animals.pdf").text
    assert all(line in text for lines in pages for line in lines)
    found = retrieve(rag, name, "How long does the heron of valley 212 sleep?").passages[0]
    assert (found.document_id, found.page) == ("animals.pdf", 213)
    assert found.text == text[found.source_start : found.source_end]

    before = embedded_inputs()
    again = ingest(rag, name, documents)
    assert {one.status for one in again if one.id != "broken.pdf"} == {UNCHANGED}
    assert sum(one.embedded for one in again) == embedded_inputs() - before == 0

    pages[212][1] = "In valley 212 the heron never sleeps."
    [changed] = ingest(rag, name, [{"id": "animals.pdf", "content": pdf(pages)}])
    assert (changed.status, changed.chunks, changed.embedded) == (UPDATED, 300, 1)
    assert embedded_inputs() - before == 1
    found = retrieve(rag, name, "How long does the heron of valley 212 sleep?").passages
    assert "never sleeps" in found[0].text
    assert not any("212 the heron sleeps" in one.text for one in found)
    assert len({one.document_version for one in found if one.document_id == "animals.pdf"}) == 1


def test_fields_of_a_front_matter_filter(rag: Any, name: str) -> None:
    ingest(rag, name, [note(number) for number in range(20)])
    year = search_pb2.NumberCondition(field="year", op=search_pb2.NUMBER_OPERATOR_GE, values=[1915])
    reply = retrieve(rag, name, "code word", filter=search_pb2.Filter(number=year), limit=20)
    assert {one.document_id for one in reply.passages} == {
        f"notes/{number}.md" for number in range(15, 20)
    }
    assert reply.passages[0].section.startswith("Note 1")


def test_fields_that_come_later_filter_too(rag: Any, name: str) -> None:
    ingest(rag, name, [note(1)])
    late = ingest_one(rag, name, "late.md", "---\ncolour: red\nyear: soon\n---\nText.\n")
    assert late.status == CREATED
    [warning] = late.warnings
    assert "'year'" in warning
    assert read(rag, name, "late.md").fields["year"].string == "soon"
    red = search_pb2.Filter(tag=search_pb2.TagCondition(field="colour", any_of=["red"]))
    assert [one.document_id for one in retrieve(rag, name, "text", filter=red).passages] == [
        "late.md"
    ]
    many = "".join(f"field{number}: 1\n" for number in range(300))
    assert len(ingest_one(rag, name, "many.md", f"---\n{many}---\nText.\n").warnings) == 300
    place = search_pb2.FieldValue(geo=search_pb2.GeoPoint(lat=48.2, lon=16.4))
    ingest_one(rag, name, "here", "The otter is here.", fields={"place": place})
    near = search_pb2.GeoCondition(field="place", centre=place.geo, radius_m=10)
    found = retrieve(rag, name, "Where is the otter?", filter=search_pb2.Filter(geo=near))
    assert [one.document_id for one in found.passages] == ["here"]


def test_chunks_that_a_document_has_lost_are_deleted(stack: Stack, rag: Any, name: str) -> None:
    def count() -> int:
        request = search_pb2.GetCollectionRequest(name=f"documents-{name}")
        stub = search_pb2_grpc.SearchServiceStub(stack.search)
        return stub.GetCollection(request).collection.document_count

    sections = [f"# Part {n}\n\nThe {animal} lives here.\n" for n, animal in enumerate(ANIMALS)]
    first = ingest_one(rag, name, "a.md", "\n".join(sections), title="Animals")
    assert (first.chunks, count()) == (10, 10)
    reversed_ = "\n".join(sections[::-1][:4])
    second = ingest_one(rag, name, "a.md", reversed_, title="Animals")
    assert (second.status, second.chunks, second.embedded, count()) == (UPDATED, 4, 0, 4)
    stored = read(rag, name, "a.md").text
    for passage in retrieve(rag, name, "Where does the newt live?").passages:
        assert passage.text == stored[passage.source_start : passage.source_end]
    ingest_one(rag, name, "b.md", "\n".join([*sections[:2], sections[0]]))
    assert count() == 7
    rag.DeleteDocument(rag_pb2.DeleteDocumentRequest(collection=name, id="a.md"))
    assert count() == 3


def test_versions_of_one_document_in_one_stream_end_with_the_last(rag: Any, name: str) -> None:
    versions = [{"id": "x", "content": f"The number is {number}."} for number in range(12)]
    receipts = ingest(rag, name, versions)
    assert [one.status for one in receipts] == [CREATED, *[UPDATED] * 11]
    assert read(rag, name, "x").text == "The number is 11."
    assert [one.text for one in retrieve(rag, name, "the number").passages] == ["The number is 11."]


def test_several_collections_and_one_without_a_text_index(
    stack: Stack, rag: Any, name: str
) -> None:
    other = f"{name}-other"
    ingest_one(rag, name, "a", "The otter swims in the river.")
    ingest_one(rag, other, "b", "Interest rates rose by half a point.")
    both = retrieve(rag, name, "Which animal swims?", additional_collections=[other])
    assert [one.document_id for one in both.passages] == ["a", "b"]
    search = search_pb2_grpc.SearchServiceStub(stack.search)
    vector_only = search_pb2.Collection(
        name=f"documents-{name}-plain",
        dimensions=384,
        index_text=False,
        fields=[search_pb2.Field(name="memetwin_document", type=search_pb2.FIELD_TYPE_TAG)],
    )
    search.CreateCollection(search_pb2.CreateCollectionRequest(collection=vector_only))
    ingest_one(rag, f"{name}-plain", "c", "The otter sleeps by day.")
    found = retrieve(rag, f"{name}-plain", "When does the otter sleep?").passages
    assert found[0].document_id == "c"
    assert found[0].score == pytest.approx(found[0].similarity)


def test_diversity_and_timings(rag: Any, name: str) -> None:
    texts = ["The otter swims fast.", "The otter swims very fast.", "The heron waits."]
    ingest(rag, name, [{"id": str(n), "content": text} for n, text in enumerate(texts)])
    plain = retrieve(rag, name, "How does the otter swim?", limit=2)
    assert {one.document_id for one in plain.passages} == {"0", "1"}
    mixed = retrieve(rag, name, "How does the otter swim?", limit=2, diversity=0.9)
    assert "2" in {one.document_id for one in mixed.passages}
    spent = plain.timings
    assert 0 < spent.embed + spent.search + spent.arrange <= spent.total
