import pytest

from services.errors import AlreadyExists, NotFound
from services.search.engines.aliases import AliasStore
from services.search.engines.catalog import Catalog
from tests.fakes.search import collection
from tests.fakes.search_redis import VectorRedis


@pytest.fixture
def aliases(redis: VectorRedis) -> AliasStore:
    return AliasStore(redis, "p:")


async def test_an_alias_moves_from_one_collection_to_another(
    aliases: AliasStore, catalog: Catalog
) -> None:
    first = await catalog.create(collection(name="one"))
    second = await catalog.create(collection(name="two"))
    assert await aliases.assign("a", first) == ""
    assert await aliases.assign("a", second) == "one"
    assert await aliases.assign("b", second) == ""
    assert await aliases.by_collection() == {"two": ["a", "b"]}
    assert await aliases.delete("a") == "two"
    assert await aliases.by_collection() == {"two": ["b"]}


async def test_an_alias_cannot_have_the_name_of_a_collection(
    aliases: AliasStore, catalog: Catalog
) -> None:
    record = await catalog.create(collection())
    with pytest.raises(AlreadyExists) as caught:
        await aliases.assign("c", record)
    assert caught.value.reason == "COLLECTION_EXISTS"
    assert await aliases.by_collection() == {}


async def test_an_alias_of_another_collection_stays(aliases: AliasStore, catalog: Catalog) -> None:
    await aliases.assign("a", await catalog.create(collection(name="one")))
    assert await aliases.delete("a", only_of="two") == "one"
    assert await aliases.by_collection() == {"one": ["a"]}
    assert await aliases.delete("a", only_of="one") == "one"
    with pytest.raises(NotFound):
        await aliases.delete("a")
