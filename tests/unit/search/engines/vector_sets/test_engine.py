import json

import pytest

from services.errors import Aborted
from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.engine import FieldsWrite
from services.search.engines.record import Record
from services.search.engines.vector_sets.engine import VectorSetEngine, _vadd_options
from services.search.filters import ExistsCondition, NumberCondition
from services.search.types import Collection
from tests.fakes.search import collection, document
from tests.fakes.search_redis import VectorRedis

COLLECTION = collection(fields={"n": "number"})


@pytest.fixture
def engine(redis: VectorRedis, catalog: Catalog, documents: DocumentStore) -> VectorSetEngine:
    return VectorSetEngine(redis, catalog, documents)


@pytest.fixture
async def record(engine: VectorSetEngine, catalog: Catalog) -> Record:
    """A collection of 100 documents."""
    await catalog.create(COLLECTION)
    rows = [document(f"d{at:02}", 1, at, fields={"n": float(at)}) for at in range(100)]
    await engine.upsert(COLLECTION, rows)
    return await catalog.read("c")


async def test_a_document_has_a_hash_and_an_element(
    redis: VectorRedis, catalog: Catalog, engine: VectorSetEngine
) -> None:
    await catalog.create(COLLECTION)
    one = document("d", 3, 4, fields={"n": 1.5}, text="cats", payload=b"\0")
    assert await engine.upsert(COLLECTION, [one]) == [True]
    assert await engine.upsert(COLLECTION, [one]) == [False]
    keys = catalog.keys(await catalog.get("c"))
    stored = redis.hashes[keys.document("d")]
    assert stored == {
        "v": one.vector.tobytes(),
        "f": b'{"n":1.5}',
        "t": b"cats",
        "p": b"\0",
        "s": b"cat",
    }
    row, attributes = redis.vector_sets[keys.vectors][b"d"]
    assert row == pytest.approx([0.6, 0.8])
    assert json.loads(attributes) == {"e": 0, "h0": 1, "n0": 1.5}


async def test_texts_are_stemmed_only_if_they_are_indexed(
    redis: VectorRedis, catalog: Catalog, engine: VectorSetEngine
) -> None:
    one = collection(index_text=False)
    record = await catalog.create(one)
    await engine.upsert(one, [document("d", 3, 4, text="cats")])
    assert redis.hashes[catalog.keys(record).document("d")]["s"] == b""


async def test_a_stale_collection_is_not_written_to(
    redis: VectorRedis, record: Record, engine: VectorSetEngine
) -> None:
    other = Catalog(redis, "p:")
    await other.update(record, collection=collection(metric="l2"))
    with pytest.raises(Aborted):
        await engine.upsert(COLLECTION, [document("new", 1, 1)])


async def test_a_stale_record_is_read_again(
    redis: VectorRedis, record: Record, engine: VectorSetEngine
) -> None:
    await Catalog(redis, "p:").update(record, average_length=3.0)
    assert await engine.upsert(COLLECTION, [document("new", 1, 1)]) == [True]


async def test_fields_are_written_for_all_documents_or_none(
    record: Record, engine: VectorSetEngine, documents: DocumentStore
) -> None:
    first, second = [one for one in await documents.get(record, ["d01", "d02"]) if one]
    assert await engine.write_fields(record, [FieldsWrite(first, {})]) == "updated"
    assert await engine.matching_ids("c", ExistsCondition("n")) == [
        *(f"d{at:02}" for at in range(100) if at != 1)
    ]
    writes = [FieldsWrite(second, {"n": 999.0}), FieldsWrite(first, {"n": 999.0})]
    assert await engine.write_fields(record, writes) == "changed"
    assert await engine.matching_ids("c", NumberCondition("n", "eq", (999.0,))) == []
    await engine.delete("c", ["d02"])
    assert await engine.write_fields(record, writes[:1]) == "missing"


async def test_added_fields_get_attributes_in_every_element(
    redis: VectorRedis, catalog: Catalog, record: Record, engine: VectorSetEngine
) -> None:
    target = collection(fields={"n": "number", "t": "tag"})
    updated = await catalog.update(record, target=target)
    assert updated
    await engine.add_fields(updated)
    elements = redis.vector_sets[catalog.keys(updated).vectors]
    assert len(elements) == 100
    assert all(json.loads(one)["t1"] == ["-"] for _, one in elements.values())
    with pytest.raises(Aborted):
        await engine.add_fields(record)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (collection(), ["NOQUANT", 200, 16, 0]),
        (collection(index="flat"), ["NOQUANT", 4, 4, 0]),
        (collection(quantization="q8", m=9, ef_construction=8), ["Q8", 8, 9, 0]),
        (collection(quantization="binary", reduced_dimensions=1), ["BIN", 200, 16, 1]),
    ],
)
def test_vadd_has_the_options_of_the_collection(one: Collection, expected: list[object]) -> None:
    assert _vadd_options(one) == expected


async def test_the_status_has_memory_and_the_largest_norm(
    catalog: Catalog, record: Record, engine: VectorSetEngine
) -> None:
    status = await engine.status(record)
    assert (status.memory, status.max_norm, status.ready) == (100 * 100, 0.0, True)
    assert await engine.indexed_count(record) == 100
