"""Text queries and hybrid queries, with filters, updates and deletions."""

import json
import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from memetwin.search.v1 import search_pb2
from services.search.engines.catalog import Catalog
from services.search.engines.connection import connect
from services.search.service import SearchService
from services.search.types import Document, Query
from tests.fakes.search import collection
from tests.refusals import refusal
from tests.search_client import create

TEXTS = {
    "doge": "Doge says wow, such dogs",
    "grumpy": "A grumpy cat says no",
    "kid": "The success kid clenches a fist of sand",
    "boromir": "One does not simply walk into Mordor; walking is for hobbits",
}


@pytest.fixture
def memes(stub: Any) -> str:
    name = create(stub, fields=[search_pb2.Field(name="n", type=search_pb2.FIELD_TYPE_NUMBER)])
    write(stub, name, TEXTS.items())
    return name


def write(stub: Any, name: str, texts: Iterable[tuple[str, str]]) -> None:
    documents = [
        search_pb2.Document(
            id=key,
            text=text,
            vector=np.eye(4, dtype="<f4")[number % 4].tobytes(),
            fields={"n": search_pb2.FieldValue(number=number)},
        )
        for number, (key, text) in enumerate(texts)
    ]
    stub.UpsertDocuments(search_pb2.UpsertDocumentsRequest(collection=name, documents=documents))


def ask(stub: Any, name: str, **query: Any) -> list[Any]:
    request = search_pb2.SearchRequest(collection=name, queries=[search_pb2.Query(**query)])
    return list(stub.Search(request).results[0].hits)


def ids(hits: Iterable[Any]) -> list[str]:
    return [hit.id for hit in hits]


def at_least(number: float) -> search_pb2.Filter:
    condition = search_pb2.NumberCondition(
        field="n", op=search_pb2.NUMBER_OPERATOR_GE, values=[number]
    )
    return search_pb2.Filter(number=condition)


def test_texts_are_found_by_stems(stub: Any, memes: str) -> None:
    assert ids(ask(stub, memes, text="a dog that walks?")) in (
        ["boromir", "doge"],
        ["doge", "boromir"],
    )
    hits = ask(stub, memes, text="grumpy says")
    assert ids(hits) == ["grumpy", "doge"]
    assert hits[0].text_score == hits[0].score > hits[1].text_score > 0
    assert ask(stub, memes, text="nothing of that kind in sight") == []
    assert ask(stub, memes, text="the ?!") == []


def test_text_queries_are_filtered(stub: Any, memes: str) -> None:
    assert ids(ask(stub, memes, text="says", filter=at_least(1))) == ["grumpy"]
    assert ask(stub, memes, text="says", filter=at_least(2)) == []


def test_a_filtered_text_query_reads_enough_candidates(stub: Any) -> None:
    name = create(stub, fields=[search_pb2.Field(name="n", type=search_pb2.FIELD_TYPE_NUMBER)])
    write(stub, name, ((f"d{number:04}", "the same words") for number in range(1200)))
    assert ids(ask(stub, name, text="words", filter=at_least(1199))) == ["d1199"]


def test_replaced_and_deleted_texts_are_not_found(stub: Any, memes: str) -> None:
    write(stub, memes, [("doge", "Much different")])
    assert ids(ask(stub, memes, text="wow")) == []
    assert ids(ask(stub, memes, text="different")) == ["doge"]
    stub.DeleteDocuments(
        search_pb2.DeleteDocumentsRequest(
            collection=memes, ids=search_pb2.Ids(values=["doge", "grumpy"])
        )
    )
    assert ask(stub, memes, text="says different") == []


@pytest.mark.parametrize("fusion", [search_pb2.FUSION_LINEAR, search_pb2.FUSION_RRF])
def test_a_hybrid_query_fuses_both_rankings(stub: Any, memes: str, fusion: Any) -> None:
    hybrid = search_pb2.HybridQuery(
        vector=np.array([0, 1, 0.5, 0], "<f4").tobytes(), text="grumpy sand", fusion=fusion
    )
    hits = ask(stub, memes, hybrid=hybrid)
    assert ids(hits)[:2] == ["grumpy", "kid"]
    assert len(hits) == 4
    assert hits[0].similarity == pytest.approx(1 / 1.25**0.5, abs=1e-6)
    assert hits[0].text_score > 0
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    [only] = ask(stub, memes, hybrid=hybrid, min_similarity=0.8)
    assert (only.id, only.vector) == ("grumpy", b"")
    assert ids(ask(stub, memes, hybrid=hybrid, offset=1, limit=1)) == ["kid"]


def test_hits_of_the_text_alone_have_their_true_similarity(stub: Any) -> None:
    name = create(stub, 2)
    rows = [(f"d{n:03}", [1.0, 0.001 * n], "nothing") for n in range(300)]
    rows.append(("far", [-1.0, 0.5], "needle"))
    documents = [
        search_pb2.Document(id=key, vector=np.array(row, "<f4").tobytes(), text=text)
        for key, row, text in rows
    ]
    stub.UpsertDocuments(search_pb2.UpsertDocumentsRequest(collection=name, documents=documents))
    vector = np.array([1, 0], "<f4").tobytes()
    weighed = search_pb2.HybridQuery(vector=vector, text="needle", vector_weight=0.1)
    first = ask(stub, name, hybrid=weighed)[0]
    assert first.id == "far"
    assert first.similarity == pytest.approx(-1 / 1.25**0.5, abs=1e-6)


def test_rankings_are_fused_to_the_requested_depth(stub: Any) -> None:
    """The second hit of both rankings is best overall, unless only the first hits are fused."""
    fields = [search_pb2.Field(name="n", type=search_pb2.FIELD_TYPE_NUMBER)]
    name = create(stub, 2, fields=fields)
    rows = [
        ("near", [1.0, 0.0], "nothing of it"),
        ("both", [1.0, 0.1], "needle in hay"),
        ("worded", [-1.0, 0.1], "needle needle needle"),
        ("neither", [-1.0, 0.0], "nothing at all"),
    ]
    documents = [
        search_pb2.Document(
            id=key,
            vector=np.array(row, "<f4").tobytes(),
            text=text,
            payload=key.encode(),
            fields={"n": search_pb2.FieldValue(number=number)},
        )
        for number, (key, row, text) in enumerate(rows)
    ]
    stub.UpsertDocuments(search_pb2.UpsertDocumentsRequest(collection=name, documents=documents))
    hybrid = search_pb2.HybridQuery(vector=documents[0].vector, text="needle")
    [best] = ask(stub, name, hybrid=hybrid, limit=1, return_text=True)
    assert (best.id, best.text, best.payload) == ("both", "needle in hay", b"both")
    assert best.fields["n"].number == 1
    [bare] = ask(stub, name, hybrid=hybrid, limit=1, return_no_fields=True)
    assert (bare.id, bare.text, dict(bare.fields)) == ("both", "", {})
    hybrid.depth = 1
    assert ids(ask(stub, name, hybrid=hybrid, limit=1)) == ["near"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"text": ""}, "BAD_TEXT"),
        ({"text": "x" * 10_001}, "BAD_TEXT"),
        ({"text": "x", "min_similarity": 0.1}, "NO_SIMILARITY"),
        ({"hybrid": search_pb2.HybridQuery(text="x")}, "WRONG_DIMENSIONS"),
        (
            {"hybrid": search_pb2.HybridQuery(text="x", vector=b"\0\0\x80?" * 4, depth=-1)},
            "OUT_OF_RANGE",
        ),
        (
            {"hybrid": search_pb2.HybridQuery(text="x", vector=b"\0\0\x80?" * 4, vector_weight=2)},
            "OUT_OF_RANGE",
        ),
        (
            {"hybrid": search_pb2.HybridQuery(text="x", vector=b"\0\0\x80?" * 4, rrf_constant=0)},
            "OUT_OF_RANGE",
        ),
    ],
)
def test_invalid_queries_are_refused(
    stub: Any, memes: str, query: dict[str, Any], reason: str
) -> None:
    request = search_pb2.SearchRequest(collection=memes, queries=[search_pb2.Query(**query)])
    assert refusal(stub.Search, request)[1] == reason


def test_a_collection_without_text_index_refuses_text_queries(stub: Any) -> None:
    fields = [search_pb2.Field(name="n", type=search_pb2.FIELD_TYPE_NUMBER)]
    name = create(stub, index_text=False, fields=fields)
    write(stub, name, TEXTS.items())
    request = search_pb2.SearchRequest(collection=name, queries=[search_pb2.Query(text="wow")])
    assert refusal(stub.Search, request)[1] == "TEXT_NOT_INDEXED"


def test_scifact_reaches_the_quality_of_bm25(stub: Any, data: Any) -> None:
    """nDCG@10 is at least .67."""
    from tests.bench.hybrid import ndcg

    name = create(stub, 4)
    rows = [json.loads(line) for line in (data / "scifact/corpus.jsonl").read_text().splitlines()]
    vector = np.ones(4, "<f4").tobytes()
    for first in range(0, len(rows), 500):
        documents = [
            search_pb2.Document(id=row["id"], text=f"{row['title']} {row['text']}", vector=vector)
            for row in rows[first : first + 500]
        ]
        stub.UpsertDocuments(
            search_pb2.UpsertDocumentsRequest(collection=name, documents=documents)
        )
    judged: dict[str, set[str]] = {}
    for line in (data / "scifact/qrels.tsv").read_text().splitlines():
        judged.setdefault(line.split("\t")[0], set()).add(line.split("\t")[1])
    queries = [
        json.loads(line) for line in (data / "scifact/queries.jsonl").read_text().splitlines()
    ]
    queries = [row for row in queries if row["id"] in judged]
    asked = [search_pb2.Query(text=row["text"], return_no_fields=True) for row in queries]
    found = stub.Search(search_pb2.SearchRequest(collection=name, queries=asked)).results
    gains = [
        ndcg([hit.id for hit in result.hits], judged[row["id"]])
        for row, result in zip(queries, found, strict=True)
    ]
    assert sum(gains) / len(gains) >= 0.67


def test_a_text_query_can_have_thousands_of_distinct_words(stub: Any) -> None:
    name = create(stub, fields=[search_pb2.Field(name="n", type=search_pb2.FIELD_TYPE_NUMBER)])
    words = [chr(code) for code in range(0x4E00, 0x4E00 + 4_900)]
    write(stub, name, [(f"d{at:04}", word) for at, word in enumerate(words[::10])])
    write(stub, name, [("rare", f"{words[0]} zebra"), ("common", words[0])])
    assert len(" ".join(words)) < 10_000
    hits = ask(stub, name, text=" ".join(words), limit=1_000)
    assert {hit.id for hit in hits} >= {"d0000", "d0489", "rare", "common"}
    assert ids(ask(stub, name, text=" ".join(["zebra", *words[1::10]]), limit=5)) == ["rare"]


# A text and a query that must find it. Programs write the same word in different characters.
WRITINGS = [
    ("東京タワーの高さは三百三十三メートルです。", "東京タワー"),
    ("Mu\u0308ller kommt morgen.", "Müller"),
    ("İstanbul büyük bir şehir.", "istanbul"),
    ("Die Donau\u00addampfschiff\u00adfahrt ruht.", "Donaudampfschifffahrt"),
    ("Code ＡＢＣ１２３ gilt.", "ABC123"),
    ("हिन्दी में लिखा गया लेख", "हिन्दी"),
    ("ค้นหาคำสั่งซื้อของฉัน", "คำสั่งซื้อ"),
    ("我喜欢猫和狗", "猫"),
    ("부산은 항구이다", "부산"),
    ("ປະເທດລາວ", "ລາວ"),
    ("ភ្នំពេញជារាជធានី", "រាជធានី"),
]


@pytest.fixture
def writings(stub: Any) -> str:
    fields = [search_pb2.Field(name="title", type=search_pb2.FIELD_TYPE_TEXT)]
    name = create(stub, fields=fields)
    documents = [
        search_pb2.Document(
            id=f"d{at}",
            text=text,
            vector=np.eye(4, dtype="<f4")[at % 4].tobytes(),
            fields={"title": search_pb2.FieldValue(string=text)},
        )
        for at, (text, _) in enumerate(WRITINGS)
    ]
    stub.UpsertDocuments(search_pb2.UpsertDocumentsRequest(collection=name, documents=documents))
    return name


def test_words_are_found_however_they_are_written(stub: Any, writings: str) -> None:
    for at, (_, query) in enumerate(WRITINGS):
        assert ids(ask(stub, writings, text=query)) == [f"d{at}"]
        condition = search_pb2.TextCondition(field="title", matches=query)
        filtered = search_pb2.Filter(text=condition)
        everything = search_pb2.Everything()
        assert ids(ask(stub, writings, everything=everything, filter=filtered)) == [f"d{at}"]


async def test_texts_of_an_earlier_version_are_analysed_anew(redis_url: str, engine: Any) -> None:
    redis, prefix = connect(redis_url), f"{uuid.uuid4()}:"
    service = SearchService(redis, prefix)
    name = search_pb2.Engine.Name(engine).removeprefix("ENGINE_").lower()
    made = (await service.create(collection(engine=name, fields={"title": "text"}))).collection
    every = [
        Document(f"d{at:03}", np.ones(2, "<f4"), {"title": text}, text)
        for at, (text, _) in enumerate(WRITINGS * 9)
    ]
    catalog = Catalog(redis, prefix)
    for first in range(0, len(every), 32):
        await service.upsert(made, every[first : first + 32])
    record = await catalog.read(made.name)
    keys = catalog.keys(record)
    for document in every:
        await redis.hset(keys.document(document.id), "s", "old")
    assert await catalog.update(record, analysis=1)
    assert "analysed anew" in " ".join((await service.describe(made.name)).warnings)
    await service.maintenance.run_once()
    assert "analysed anew" not in " ".join((await service.describe(made.name)).warnings)
    for at, (_, query) in enumerate(WRITINGS):
        current = await service.collection(made.name)
        [result] = await service.search([Query(current, text=query, limit=99)])
        assert sorted(hit.id for hit in result.hits) == [
            f"d{number:03}" for number in range(at, len(every), len(WRITINGS))
        ]
    await service.drop(made.name)
    await redis.aclose()
