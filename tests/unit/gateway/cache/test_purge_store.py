import pytest

from services.errors import InvalidArgument
from services.gateway.cache.owners import Owner
from services.gateway.cache.purge_store import PurgeStore
from tests.fakes.redis import FakeRedis

OWNER = Owner("part", "tenant")


async def test_records_come_newest_first() -> None:
    purges = PurgeStore(FakeRedis(), "p:")  # type: ignore[arg-type]
    for count in range(3):
        await purges.append(OWNER, {"count": count})
    assert len((await purges.page("part", 0, ""))[0]) == 3
    with pytest.raises(InvalidArgument):
        await purges.page("part", -1, "")
    page, token = await purges.page("part", 2, "")
    assert [record["count"] for record in page] == [2, 1]
    assert await purges.page("part", 2, token) == ([{"count": 0}], "")


async def test_the_oldest_records_of_a_tenant_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.cache.purge_store.MAX_TENANT_RECORDS", 2)
    redis = FakeRedis()
    purges = PurgeStore(redis, "p:")  # type: ignore[arg-type]
    for partition in ("a", "b", "c"):
        await purges.append(Owner(partition, "tenant"), {"count": 1})
    [(_, keys, arguments)] = redis.evals
    assert (keys, arguments) == (["p:gateway:audit:a"], ["1-0"])
