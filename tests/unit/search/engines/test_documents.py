import time

import pytest

from services.search.engines.catalog import Catalog
from services.search.engines.documents import (
    DocumentStore,
    dump_fields,
    expires_at_ms,
    load_fields,
)
from services.search.engines.record import Record
from services.search.engines.vector_sets.engine import VectorSetEngine
from services.search.filters import GeoPoint, Value
from tests.fakes.search import collection, document
from tests.fakes.search_redis import VectorRedis

FIELDS: dict[str, Value] = {
    "n": 0.1,
    "t": ("a b", "ç,"),
    "one": "é",
    "g": GeoPoint(-33.9, 151.2),
    "empty": (),
}


@pytest.fixture
async def record(redis: VectorRedis, catalog: Catalog, documents: DocumentStore) -> Record:
    """A collection of 30 documents, of which d1 expires in 60 s."""
    created = await catalog.create(collection())
    engine = VectorSetEngine(redis, catalog, documents)
    await engine.upsert(
        created.collection,
        [document(f"d{at}", 1, at, ttl=60.0 if at == 1 else 0.0, text="cat") for at in range(30)],
    )
    return await catalog.read("c")


def test_fields_come_back_as_they_were() -> None:
    assert load_fields(dump_fields(FIELDS)) == FIELDS
    assert load_fields(None) == {}


def test_a_ttl_becomes_an_expiry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert expires_at_ms(document("d", 1, 2, ttl=2.5)) == 1_002_500
    assert expires_at_ms(document("d", 1, 2)) == 0


async def test_documents_are_read_by_id(record: Record, documents: DocumentStore) -> None:
    found = await documents.get(record, ["d2", "none", "d1"])
    assert [one and one.id for one in found] == ["d2", None, "d1"]
    assert found[0]
    assert found[2]
    assert found[0].vector.tolist() == [1, 2]
    assert (found[0].text, found[0].ttl) == ("cat", 0.0)
    assert 0 < found[2].ttl <= 60


async def test_ids_are_listed_in_order(record: Record, documents: DocumentStore) -> None:
    assert await documents.list_ids(record, "", 3) == ["d0", "d1", "d10"]
    assert await documents.list_ids(record, "d8", 3) == ["d9"]


async def test_samples_repeat_with_their_seed(record: Record, documents: DocumentStore) -> None:
    few = await documents.sample_ids(record, 5, seed=1)
    assert len(set(few)) == 5
    assert await documents.sample_ids(record, 5, seed=1) == few
    assert await documents.sample_ids(record, 5, seed=2) != few
    assert len(set(await documents.sample_ids(record, 100, seed=1))) == 30


async def test_expired_documents_are_not_counted_and_are_deleted(
    record: Record, documents: DocumentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await documents.count(record) == 30
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert await documents.count(record) == 29
    await documents.delete_expired(record)
    assert await documents.get(record, ["d1"]) == [None]
    assert len(await documents.list_ids(record, "", 100)) == 29


async def test_a_document_that_was_written_anew_does_not_expire(
    record: Record, documents: DocumentStore
) -> None:
    assert await documents.delete("c", ["d0", "d1"], expired_at="1") == 0
    assert await documents.count(record) == 30


async def test_deletions_count_existing_documents(
    redis: VectorRedis, catalog: Catalog, record: Record, documents: DocumentStore
) -> None:
    assert await documents.delete("c", ["d0", "d1", "none"]) == 2
    assert await documents.count(record) == 28
    keys = catalog.keys(record)
    assert b"d0" not in redis.vector_sets[keys.vectors]
    assert b"d0" not in redis.sorted_sets[keys.term_prefix + "cat"]


async def test_a_deletion_with_a_stale_record_is_repeated(
    redis: VectorRedis, record: Record, documents: DocumentStore
) -> None:
    assert await Catalog(redis, "p:").update(record, average_length=2.0)
    assert await documents.delete("c", ["d0"]) == 1


async def test_the_memory_is_estimated_from_a_sample(
    record: Record, documents: DocumentStore
) -> None:
    assert await documents.sizes([record]) == [(30, 30 * 500)]
