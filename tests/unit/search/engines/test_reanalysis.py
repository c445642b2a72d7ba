import pytest

from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.reanalysis import Reanalyser, analysis_warnings
from services.search.engines.vector_sets.engine import VectorSetEngine
from services.search.filters import TextCondition
from services.search.types import Document, Query
from services.words import ANALYSIS_VERSION
from tests.fakes.search import collection, vector
from tests.fakes.search_redis import VectorRedis

COLLECTION = collection(fields={"title": "text"})
TEXTS = {"ascii": "plain words", "tokyo": "東京タワーの高さ", "soft": "Dampf\u00adschiff"}


@pytest.fixture
async def engine(redis: VectorRedis, catalog: Catalog, documents: DocumentStore) -> VectorSetEngine:
    """An engine whose collection an earlier version has written."""
    engine = VectorSetEngine(redis, catalog, documents)
    await catalog.create(COLLECTION)
    every = [
        Document(name, vector(1, 0), {"title": text}, text=text) for name, text in TEXTS.items()
    ]
    await engine.upsert(COLLECTION, every)
    await catalog.update(await catalog.read("c"), analysis=1, average_length=1.0)
    keys = catalog.keys(await catalog.read("c"))
    for name in TEXTS:
        redis.hashes[keys.document(name)]["s"] = b"old"
        redis.sorted_sets[keys.term_prefix + "old"][name.encode()] = 1.0
        [vectors] = redis.vector_sets.values()
        row, attributes = vectors[name.encode()]
        vectors[name.encode()] = (row, attributes.replace('"x', '"xx'))
    return engine


async def found(engine: VectorSetEngine, catalog: Catalog, text: str) -> list[str]:
    current = (await catalog.get("c")).collection
    [result] = await engine.search([Query(current, text=text)])
    return [hit.id for hit in result.hits]


async def test_texts_of_earlier_versions_are_analysed_anew(
    engine: VectorSetEngine, catalog: Catalog, redis: VectorRedis
) -> None:
    assert "analysed anew" in (await engine.status(await catalog.get("c"))).warnings[0]
    await engine.maintain("c")
    record = await catalog.read("c")
    assert record.analysis == ANALYSIS_VERSION
    assert record.average_length > 1
    assert (await engine.status(record)).warnings == []
    assert await found(engine, catalog, "東京") == ["tokyo"]
    assert await found(engine, catalog, "dampfschiff") == ["soft"]
    condition = TextCondition("title", "タワー")
    assert await engine.matching_ids("c", condition) == ["tokyo"]
    stale = redis.sorted_sets[catalog.keys(record).term_prefix + "old"]
    assert list(stale) == [b"ascii"]


async def test_texts_in_ascii_are_left_as_they_are(
    engine: VectorSetEngine, catalog: Catalog, redis: VectorRedis
) -> None:
    await engine.maintain("c")
    key = catalog.keys(await catalog.read("c")).document("ascii")
    assert redis.hashes[key]["s"] == b"old"


async def test_a_text_that_is_replaced_meanwhile_keeps_its_new_stems(
    engine: VectorSetEngine, catalog: Catalog, documents: DocumentStore, redis: VectorRedis
) -> None:
    record = await catalog.get("c")
    [earlier] = await documents.get(record, ["tokyo"])
    assert earlier
    newer = Document("tokyo", vector(1, 0), {"title": "é"}, text="大阪")
    await engine.upsert(COLLECTION, [newer])
    assert await documents.write_stems(record, [earlier], [["x1"]])
    assert await found(engine, catalog, "大阪") == ["tokyo"]


async def test_a_collection_that_changes_meanwhile_is_read_again(
    engine: VectorSetEngine, catalog: Catalog, documents: DocumentStore
) -> None:
    outdated = await catalog.get("c")
    await catalog.update(outdated, expiring=True)
    await Reanalyser(catalog, documents, engine.write_fields).run(outdated)
    assert (await catalog.read("c")).analysis == ANALYSIS_VERSION
    assert await found(engine, catalog, "東京") == ["tokyo"]


async def test_new_collections_need_no_analysis(catalog: Catalog) -> None:
    assert analysis_warnings(await catalog.create(collection(name="new"))) == []
