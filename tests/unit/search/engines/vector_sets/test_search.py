from typing import Any

import pytest

from services.errors import Aborted, NotFound
from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.vector_sets.engine import VectorSetEngine
from services.search.engines.vector_sets.search import VectorSetSearch
from services.search.filters import NumberCondition, TagCondition
from services.search.types import Query
from tests.fakes.search import collection, document, vector
from tests.fakes.search_redis import VectorRedis

COLLECTION = collection(fields={"n": "number", "t": "tag"})
TEXTS = ["a cat", "a dog", "cats and dogs", ""]


@pytest.fixture
async def search(redis: VectorRedis, catalog: Catalog, documents: DocumentStore) -> VectorSetSearch:
    """A search of 20 documents whose angle to the x axis grows."""
    await catalog.create(COLLECTION)
    rows = [
        document(f"d{at:02}", 1, 0.1 * at, fields={"n": float(at)}, text=TEXTS[at % 4])
        for at in range(20)
    ]
    await VectorSetEngine(redis, catalog, documents).upsert(COLLECTION, rows)
    redis.commands.clear()
    return VectorSetSearch(redis, catalog)


async def ids(search: VectorSetSearch, **query: Any) -> list[str]:
    [result] = await search.search([Query(COLLECTION, **query)])
    return [hit.id for hit in result.hits]


def sent(redis: VectorRedis, name: str) -> list[tuple[Any, ...]]:
    return [command for command in redis.commands if command[0] == name]


async def test_the_nearest_documents_are_found(search: VectorSetSearch) -> None:
    [result] = await search.search([Query(COLLECTION, vector=vector(2, 0), limit=2)])
    assert [(hit.id, hit.fields) for hit in result.hits] == [
        *(("d00", {"n": 0.0}), ("d01", {"n": 1.0}))
    ]
    assert result.hits[0].similarity == pytest.approx(1)
    assert result.hits[1].distance == pytest.approx(1 - 1 / 1.01**0.5, abs=1e-6)


async def test_one_round_trip_answers_all_queries(
    search: VectorSetSearch, redis: VectorRedis
) -> None:
    queries = [
        Query(COLLECTION, vector=vector(1, 0), limit=1, return_fields=frozenset()),
        Query(COLLECTION, text="dog", limit=1),
        Query(COLLECTION, document_id="d03", limit=1),
        Query(COLLECTION, limit=2),
    ]
    results = await search.search(queries)
    assert [[hit.id for hit in result.hits] for result in results] == [
        *(["d00"], ["d01"], ["d04"], ["d00", "d01"])
    ]
    assert [command[0] for command in redis.commands[:4]] == ["VSIM", "EVAL", "VSIM", "ZRANGEBYLEX"]


async def test_an_approximate_search_that_found_too_few_scans(
    search: VectorSetSearch, redis: VectorRedis
) -> None:
    redis.unreachable = {b"d00", b"d01"}
    assert (await ids(search, vector=vector(1, 0), limit=20))[:2] == ["d00", "d01"]
    approximate, exact = sent(redis, "VSIM")
    assert "EF" in approximate
    assert "TRUTH" in exact


async def test_a_filtered_search_of_few_documents_scans(
    search: VectorSetSearch, redis: VectorRedis
) -> None:
    redis.unreachable = {b"d05"}
    found = await ids(search, vector=vector(1, 0), condition=NumberCondition("n", "ge", (5.0,)))
    assert found[0] == "d05"


async def test_a_full_scan_is_widened_until_rounding_cannot_matter(
    redis: VectorRedis, catalog: Catalog, documents: DocumentStore
) -> None:
    one = collection(name="same", metric="l2")
    await catalog.create(one)
    rows = [document(f"d{at:03}", 100, 1e-3 * at) for at in range(60)]
    await VectorSetEngine(redis, catalog, documents).upsert(one, rows)
    redis.commands.clear()
    query = Query(one, vector=vector(100, 0), limit=2, exact=True, return_fields=frozenset())
    await VectorSetSearch(redis, catalog).search([query])
    counts = [command[command.index("COUNT") + 1] for command in sent(redis, "VSIM")]
    assert counts == [12, 48, 192]


async def test_texts_are_ranked_and_filtered(search: VectorSetSearch) -> None:
    assert (await ids(search, text="cats dogs"))[0] == "d02"
    assert await ids(search, text="dog", condition=NumberCondition("n", "gt", (17.0,))) == ["d18"]
    assert await ids(search, text="the") == []


async def test_everything_is_listed_by_id(search: VectorSetSearch) -> None:
    assert await ids(search, limit=2, offset=3) == ["d03", "d04"]
    filtered = await ids(search, limit=2, condition=NumberCondition("n", "gt", (7.0,)))
    assert filtered == ["d08", "d09"]


async def test_all_ids_that_match_are_returned(search: VectorSetSearch) -> None:
    matching = await search.matching_ids("c", NumberCondition("n", "lt", (2.0,)))
    assert matching == ["d00", "d01"]
    assert len(await search.matching_ids("c", None)) == 20
    assert await search.matching_ids("c", TagCondition("t", ("x",))) == []


async def test_background_threads_are_used_only_if_allowed(
    search: VectorSetSearch, redis: VectorRedis
) -> None:
    await ids(search, vector=vector(1, 0))
    search.background = True
    await ids(search, vector=vector(1, 0))
    assert ["NOTHREAD" in command for command in sent(redis, "VSIM")] == [True, False]


async def test_an_unknown_document_cannot_be_searched_by(search: VectorSetSearch) -> None:
    with pytest.raises(NotFound) as caught:
        await search.search([Query(COLLECTION, document_id="none")])
    assert caught.value.reason == "DOCUMENT_NOT_FOUND"


async def test_documents_deleted_meanwhile_are_dropped(
    search: VectorSetSearch, redis: VectorRedis, catalog: Catalog
) -> None:
    keys = catalog.keys(await catalog.get("c"))
    del redis.hashes[keys.document("d00")]
    [result] = await search.search([Query(COLLECTION, vector=vector(1, 0), limit=2)])
    assert [hit.id for hit in result.hits] == ["d01"]
    assert result.partial_reason == "1 hits were deleted while the search ran"


async def test_a_stale_record_is_read_again(search: VectorSetSearch, redis: VectorRedis) -> None:
    other = Catalog(redis, "p:")
    assert await other.update(await other.read("c"), average_length=9.0)
    assert await ids(search, vector=vector(1, 0), limit=1) == ["d00"]
    assert len(sent(redis, "VSIM")) == 2


async def test_a_collection_that_differs_aborts_the_search(
    search: VectorSetSearch, redis: VectorRedis, catalog: Catalog
) -> None:
    other = Catalog(redis, "p:")
    await other.update(await other.read("c"), collection=collection(metric="l2"))
    with pytest.raises(Aborted):
        await ids(search, vector=vector(1, 0))
