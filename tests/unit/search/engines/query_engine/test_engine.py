"""The engine with recorded replies of a Query Engine (RESP2)."""

from typing import Any

import hiredis
import pytest
from redis import exceptions

from services.errors import Aborted, FailedPrecondition, Failure
from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.engine import FieldsWrite
from services.search.engines.query_engine.engine import QueryEngine, is_index_complete
from services.search.engines.record import Index, Record
from services.search.filters import GeoPoint
from services.search.index_defaults import with_index_changes
from tests.fakes.search import collection, document
from tests.fakes.search_redis import VectorRedis

COLLECTION = collection(engine="query_engine", fields={"n": "number"})
# Parts of FT.INFO after five documents were written, one of them with a vector of the wrong length.
INFO = (
    "*12\r\n+index_name\r\n+ix\r\n+num_docs\r\n:4\r\n"
    "+hash_indexing_failures\r\n:1\r\n+total_index_memory_sz_mb\r\n$8\r\n0.015625\r\n"
    "+indexing\r\n:0\r\n+percent_indexed\r\n$1\r\n1\r\n"
)


def parsed(reply: str) -> Any:
    reader = hiredis.Reader()
    reader.feed(reply.encode())
    return reader.gets()


@pytest.fixture
def server(redis: VectorRedis) -> dict[str, Any]:
    """The reply to each FT command, by its name; an exception is raised."""
    replies: dict[str, Any] = {"FT.CREATE": b"OK", "FT.INFO": parsed(INFO), "FT.DROPINDEX": b"OK"}

    def answer(name: str, *words: Any) -> Any:
        reply = replies[name]
        if isinstance(reply, Exception):
            raise reply
        return reply

    redis.query_engine = answer
    return replies


@pytest.fixture
def engine(
    redis: VectorRedis, catalog: Catalog, documents: DocumentStore, server: dict[str, Any]
) -> QueryEngine:
    return QueryEngine(redis, catalog, documents)


@pytest.fixture
async def record(catalog: Catalog) -> Record:
    return await catalog.create(COLLECTION)


def sent(redis: VectorRedis, name: str) -> list[tuple[Any, ...]]:
    return [command for command in redis.commands if command[0] == name]


async def test_a_collection_gets_an_index(
    redis: VectorRedis, catalog: Catalog, record: Record, engine: QueryEngine
) -> None:
    await engine.create(record)
    keys = catalog.keys(record)
    [command] = sent(redis, "FT.CREATE")
    assert list(command[1:7]) == [
        *(keys.search_index(record.index), "ON", "HASH", "PREFIX", 1, keys.document_prefix)
    ]
    schema = command[command.index("SCHEMA") + 1 :]
    assert list(schema[:9]) == ["h", "TAG", "e", "NUMERIC", "s", "TEXT", "NOSTEM", "n0", "NUMERIC"]
    assert list(schema[9:12]) == ["v", "VECTOR", "HNSW"]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Index already exists", None),
        ("Bad arguments for vector similarity algorithm", FailedPrecondition),
        ("Unknown", Failure),
    ],
)
async def test_errors_of_creation_are_told_apart(
    server: dict[str, Any], record: Record, engine: QueryEngine, message: str, kind: Any
) -> None:
    server["FT.CREATE"] = exceptions.ResponseError(message)
    if kind is None:
        await engine.create(record)
        return
    with pytest.raises(kind):
        await engine.create(record)


async def test_a_document_is_a_hash_that_the_index_reads(
    redis: VectorRedis, catalog: Catalog, record: Record, engine: QueryEngine
) -> None:
    one = document("d", 3, 4, fields={"n": 1.5}, text="cats", payload=b"\0")
    assert await engine.upsert(COLLECTION, [one]) == [True]
    assert await engine.upsert(COLLECTION, [one]) == [False]
    assert redis.hashes[catalog.keys(record).document("d")] == {
        "v": one.vector.tobytes(),
        "f": b'{"n":1.5}',
        "t": b"cats",
        "p": b"\0",
        "e": b"0",
        "n0": b"1.5",
        "h": b"all,h0",
        "s": b"cat",
    }


async def test_a_stale_collection_is_not_written_to(
    redis: VectorRedis, record: Record, engine: QueryEngine
) -> None:
    changed = collection(engine="query_engine", metric="l2")
    await Catalog(redis, "p:").update(record, collection=changed)
    with pytest.raises(Aborted):
        await engine.upsert(COLLECTION, [document("d", 1, 1)])


async def test_written_fields_replace_the_old_ones(
    redis: VectorRedis, catalog: Catalog, engine: QueryEngine, documents: DocumentStore
) -> None:
    one = collection(engine="query_engine", fields={"n": "number", "g": "geo", "t": "tag"})
    record = await catalog.create(one)
    fields = {"n": 1.0, "g": GeoPoint(0, 0)}
    await engine.upsert(one, [document("d", 1, 0, fields=fields, ttl=60.0)])
    [stored] = await documents.get(record, ["d"])
    assert stored
    record = await catalog.get("c")
    assert await engine.write_fields(record, [FieldsWrite(stored, {"t": "a"})]) == "updated"
    found = redis.hashes[catalog.keys(record).document("d")]
    assert {key for key in found if key[-1].isdigit()} == {"t2"}
    assert (found["h"], found["f"]) == (b"all,h2", b'{"t":"a"}')
    assert found["e"] != b"0"
    assert await engine.write_fields(record, [FieldsWrite(stored, {})]) == "changed"


async def test_the_status_is_read_from_ft_info(record: Record, engine: QueryEngine) -> None:
    status = await engine.status(record)
    assert (status.memory, status.ready) == (2**14, True)
    assert list(status.warnings) == ["The index is missing 1 documents."]
    assert await engine.indexed_count(record) == 4


def test_an_index_is_complete_when_it_has_stopped_indexing() -> None:
    assert is_index_complete({"percent_indexed": b"1", "indexing": 0})
    assert not is_index_complete({"percent_indexed": b"0.99", "indexing": 0})
    assert not is_index_complete({"percent_indexed": b"1", "indexing": 1})
    assert not is_index_complete({})


async def test_added_fields_are_declared_one_by_one(
    redis: VectorRedis,
    server: dict[str, Any],
    catalog: Catalog,
    record: Record,
    engine: QueryEngine,
) -> None:
    server["FT.ALTER"] = exceptions.ResponseError("Duplicate field in schema")
    fields = {"n": "number", "t": "tag", "g": "geo"}
    target = collection(engine="query_engine", fields=fields)
    updated = await catalog.update(record, target=target)
    assert updated
    await engine.add_fields(updated)
    assert [command[4:] for command in sent(redis, "FT.ALTER")] == [
        *(("t1", "TAG"), ("x2", "NUMERIC"), ("y2", "NUMERIC"), ("z2", "NUMERIC"))
    ]
    server["FT.ALTER"] = exceptions.ResponseError("Unknown")
    with pytest.raises(Failure):
        await engine.add_fields(updated)


async def test_a_reindex_encodes_the_vectors_and_drops_the_old_index(
    redis: VectorRedis, catalog: Catalog, record: Record, engine: QueryEngine
) -> None:
    await engine.upsert(COLLECTION, [document(f"d{at}", 1, at) for at in range(40)])
    target = collection(engine="query_engine", fields={"n": "number"}, vector_type="float16")
    await engine.reindex("c", target)
    reindexed = await catalog.read("c")
    keys = catalog.keys(reindexed)
    assert (reindexed.collection, reindexed.index.generation) == (target, 2)
    assert all(len(redis.hashes[keys.document(f"d{at}")]["i2"]) == 4 for at in range(40))
    assert sent(redis, "FT.DROPINDEX") == [("FT.DROPINDEX", keys.search_index(Index(1)))]
    await engine.reindex("c", COLLECTION)
    assert "i2" not in redis.hashes[keys.document("d0")]


async def test_a_native_index_needs_no_copy(
    redis: VectorRedis,
    catalog: Catalog,
    record: Record,
    engine: QueryEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*arguments: Any) -> Any:
        raise AssertionError("a native index reads the documents' vectors")

    monkeypatch.setattr(engine, "copy_arguments", never)
    await engine.upsert(COLLECTION, [document("d", 1, 1)])
    await engine.reindex("c", with_index_changes(COLLECTION, {"metric": "l2"}))
    assert (await catalog.read("c")).collection.metric == "l2"


async def test_an_index_that_is_gone_is_dropped_silently(
    server: dict[str, Any], record: Record, engine: QueryEngine
) -> None:
    server["FT.DROPINDEX"] = exceptions.ResponseError("no such index")
    await engine.drop_index(record, record.index)
    await engine.drop(record)
