import time

import pytest

from services.gateway.cache.recency import RecencyList
from tests.fakes.redis import FakeRedis


class Clock:
    now = 1000.0

    def time(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", Clock().time)


async def test_the_oldest_members_of_a_tenant_are_dropped() -> None:
    redis = FakeRedis()
    members = RecencyList(redis, "p:", 3, 60)
    assert await members.add({}) == []
    assert await members.add({"t": ["a"], "u": ["x", "y", "z"]}) == []
    assert await members.add({"t": ["b"]}) == []
    assert await members.add({"t": ["c"]}) == []
    assert await members.add({"t": ["a"]}) == []  # it is renewed
    assert await members.add({"t": ["d", "e"], "u": ["v"]}) == ["b", "c", "x"]
    assert set(redis.values["p:t"]) == {"a", "d", "e"}
    assert redis.expiries == {"p:t": 60, "p:u": 60}
