import asyncio
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from services.errors import Unavailable
from services.gateway import redis_watch
from services.gateway.alarms import Alarms
from services.gateway.redis_watch import REPORT_SECONDS, RedisWatch
from services.gateway.shared_secret import SharedSecret
from tests.fakes.redis import FakeRedis


class Replica:
    """A replica of the gateway that watches a Redis."""

    def __init__(self, redis: FakeRedis) -> None:
        self.alarms = Alarms()
        self.secret = SharedSecret(redis, "p:", None, self.alarms)  # type: ignore[arg-type]
        self.watch = RedisWatch(redis, "p:", self.secret, self.alarms)  # type: ignore[arg-type]

    @property
    def reasons(self) -> list[str]:
        return [one["reason"] for one in self.alarms.active()]


async def test_every_replica_notices_lost_data_and_agrees_on_a_secret() -> None:
    redis = FakeRedis()
    replicas = [Replica(redis) for _ in range(3)]
    for one in replicas:
        await one.watch.check()
    redis.values.clear()
    newcomer = Replica(redis)
    await newcomer.watch.check()
    for one in replicas:
        await one.watch.check()
        assert one.reasons == ["REDIS_DATA_LOST"]
        assert await one.secret.read() == await newcomer.secret.read()
    assert not newcomer.reasons


async def test_the_alarm_of_lost_data_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    redis, now = FakeRedis(), 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    one = Replica(redis)
    await one.watch.check()
    redis.values.clear()
    await one.watch.check()
    now += REPORT_SECONDS - 1
    await one.watch.check()
    assert one.reasons == ["REDIS_DATA_LOST"]
    now += 2
    await one.watch.check()
    assert not one.reasons


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_policy_that_evicts_is_an_alarm(policy: str, nodes: int) -> None:
    redis = FakeRedis()
    server = {"maxmemory": 2**30, "maxmemory_policy": policy}
    redis.information = server if nodes == 1 else {f"node:{i}": server for i in range(nodes)}
    one = Replica(redis)
    await one.watch.check()
    assert one.reasons == ["REDIS_EVICTS"]
    assert policy in one.alarms.active()[0]["message"]
    server["maxmemory_policy"] = "noeviction"
    await one.watch.check()
    assert not one.reasons


async def test_no_policy_evicts_without_a_limit() -> None:
    redis = FakeRedis()
    redis.information = {"maxmemory": 0, "maxmemory_policy": "allkeys-lru"}
    one = Replica(redis)
    await one.watch.check()
    assert not one.reasons


async def test_a_server_may_forbid_info(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = FakeRedis()

    async def forbidden(section: str) -> None:
        raise NoPermissionError("this user has no permissions to run the 'info' command")

    monkeypatch.setattr(redis, "info", forbidden)
    one = Replica(redis)
    await one.watch.check()
    assert not one.reasons


async def test_the_watch_survives_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = FakeRedis()
    one = Replica(redis)
    await one.watch.check()
    redis.failure = RedisConnectionError()
    with pytest.raises(Unavailable):
        await one.watch.check()
    monkeypatch.setattr(redis_watch, "CHECK_SECONDS", 0.0)
    task = asyncio.create_task(one.watch.watch())
    await asyncio.sleep(0)
    redis.failure = None
    redis.values.clear()
    for _ in range(100):
        await asyncio.sleep(0)
    task.cancel()
    assert one.reasons == ["REDIS_DATA_LOST"]
