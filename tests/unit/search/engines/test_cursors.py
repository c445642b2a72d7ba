from services.search.engines.catalog import Catalog
from services.search.engines.cursors import CursorStore
from tests.fakes.search import collection
from tests.fakes.search_redis import VectorRedis


async def test_the_ids_of_a_cursor_are_read_in_order(redis: VectorRedis, catalog: Catalog) -> None:
    record = await catalog.create(collection())
    cursors = CursorStore(redis, catalog)
    ids = [f"{number:04}" for number in range(2_500)]
    await cursors.write(record, "one", ids)
    assert await cursors.read(record, "one", "", 3) == ids[:3]
    assert await cursors.read(record, "one", "2498", 3) == ["2499"]
    assert await cursors.read(record, "one", "2499", 3) == []


async def test_an_expired_cursor_is_reported(redis: VectorRedis, catalog: Catalog) -> None:
    record = await catalog.create(collection())
    assert await CursorStore(redis, catalog).read(record, "gone", "a", 3) is None
