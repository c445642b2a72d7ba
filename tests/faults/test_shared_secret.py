"""Replicas agree on the secret whatever Redis loses, so that a purge holds on all of them."""

import random
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from tests.redis_server import RedisServer
from tests.service_process import ServiceProcess
from tests.stack import Stack, wait_until, wait_until_ready

PREFIX = "secret:"
SCOPE = cache_pb2.Scope(tenant="acme")
SECRET = "5e" * 32
SECONDS = 10.0


class World:
    """Three gateways on one Redis, and what can happen to them."""

    def __init__(self, folder: Path, secret_file: str = "") -> None:
        self.folder = folder
        self.redis = RedisServer(folder)
        self.stack = Stack(self.redis.url, PREFIX, secret_file=secret_file)
        wait_until_ready(self.stack)
        settings = {"REDIS_URL": self.redis.url, "REDIS_PREFIX": PREFIX, "SECRET_FILE": secret_file}
        settings["EMBEDDER_ADDRESS"] = self.stack.embedder_address
        settings["SEARCH_ADDRESS"] = self.stack.search_address
        self.replicas = [ServiceProcess("gateway", **settings) for _ in range(3)]
        self.wait()

    def close(self) -> None:
        for one in self.replicas:
            one.close()
        self.stack.close()
        self.redis.stop()

    def wait(self) -> None:
        """Wait until all replicas are ready."""
        for one in self.replicas:
            wait_until(lambda one=one: status_of(one) == "ready", 120)

    def flush(self) -> None:
        with self.redis.client() as client:
            client.flushall()

    def evict_the_secret(self) -> None:
        with self.redis.client() as client:
            client.delete(f"{PREFIX}gateway:secret")

    def restart_redis(self) -> None:
        self.redis.kill()
        self.redis.start()

    def lose_the_disk(self) -> None:
        self.redis.kill()
        shutil.rmtree(self.folder / "redis-data")
        self.redis.start()

    def restart_first(self) -> None:
        self._restart(0)

    def restart_second(self) -> None:
        self._restart(1)

    def restart_all(self) -> None:
        for number in range(3):
            self._restart(number)

    def _restart(self, number: int) -> None:
        self.replicas[number].kill()
        self.replicas[number].start()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    one.close()


def status_of(replica: ServiceProcess) -> str:
    try:
        return str(httpx.get(f"http://{replica.http_address}/readyz", timeout=5).json()["status"])
    except httpx.TransportError:
        return "unreachable"


def alarms_of(replica: ServiceProcess) -> list[str]:
    reply = httpx.get(f"http://{replica.http_address}/readyz", timeout=5)
    return [one["reason"] for one in reply.json().get("alarms", [])]


def stub(replica: ServiceProcess) -> Any:
    return cache_pb2_grpc.CacheServiceStub(replica.channel)


def create(replica: ServiceProcess) -> str:
    """Create an entry, and return its prompt."""
    prompt = str(uuid.uuid4())
    request = cache_pb2.CreateEntryRequest(scope=SCOPE, prompt=prompt, response="yes")
    stub(replica).CreateEntry(request, timeout=30)
    return prompt


def serves(replica: ServiceProcess, prompt: str) -> bool:
    lookup = cache_pb2.LookupEntryRequest(
        scope=SCOPE, prompt=prompt, mode=cache_pb2.LOOKUP_MODE_EXACT
    )
    decision = stub(replica).LookupEntry(lookup, timeout=30).decision
    return bool(decision.kind == cache_pb2.DECISION_KIND_EXACT)


def agree(replicas: list[ServiceProcess]) -> bool:
    """Return whether every replica serves what every other replica stores."""
    return all(serves(reader, prompt) for prompt in map(create, replicas) for reader in replicas)


def require_a_purge_to_hold(replicas: list[ServiceProcess], purging: ServiceProcess) -> None:
    prompts = [create(one) for one in replicas]
    request = cache_pb2.PurgeEntriesRequest(scope=SCOPE, force=True, all=True)
    assert stub(purging).PurgeEntries(request, timeout=60).count >= len(prompts)
    assert not [1 for one in replicas for prompt in prompts if serves(one, prompt)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_replicas_agree_after_losses_and_restarts_in_any_order(world: World, seed: int) -> None:
    rng = random.Random(seed)
    events = [
        *(world.flush, world.restart_redis, world.lose_the_disk, world.evict_the_secret),
        *(world.restart_first, world.restart_second, world.restart_all),
    ]
    assert agree(world.replicas)
    for _ in range(3):
        for event in rng.sample(events, 3):
            event()
            if rng.random() < 0.5:
                world.wait()
        world.wait()
        wait_until(lambda: agree(world.replicas), SECONDS)
        require_a_purge_to_hold(world.replicas, rng.choice(world.replicas))


def test_every_replica_shows_that_redis_has_lost_its_data(world: World) -> None:
    assert [alarms_of(one) for one in world.replicas] == [[], [], []]
    world.flush()
    lost = [["REDIS_DATA_LOST"]] * 3
    wait_until(lambda: [alarms_of(one) for one in world.replicas] == lost, SECONDS)
    assert [status_of(one) for one in world.replicas] == ["ready"] * 3


def test_a_policy_that_evicts_is_shown_while_it_holds(world: World) -> None:
    with world.redis.client() as client:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        evicts = [["REDIS_EVICTS"]] * 3
        wait_until(lambda: [alarms_of(one) for one in world.replicas] == evicts, SECONDS)
        client.config_set("maxmemory-policy", "noeviction")
        wait_until(lambda: not any(map(alarms_of, world.replicas)), SECONDS)


def test_a_configured_secret_survives_every_loss(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET)
    world = World(tmp_path, str(file))
    try:
        world.flush()
        world.restart_first()
        world.wait()
        assert agree(world.replicas)
        with world.redis.client() as client:
            assert not client.exists(f"{PREFIX}gateway:secret")
        file.write_text("7a" * 32)
        wait_until(lambda: not any(map(alarms_of, world.replicas[:1])), SECONDS)
        wait_until(lambda: agree(world.replicas), SECONDS)
        require_a_purge_to_hold(world.replicas, world.replicas[2])
    finally:
        world.close()
