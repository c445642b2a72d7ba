from typing import Any

import pytest
from redis import exceptions
from redis.asyncio import RedisCluster

from services.errors import InvalidArgument
from services.search.engines.connection import any_node, connect, ping
from tests.fakes.search_redis import VectorRedis


class Cluster(RedisCluster):
    """A cluster in which the nodes in ``lost`` do not answer."""

    def __init__(self, *lost: str) -> None:
        self.lost = lost
        self.pinged: list[str] = []

    def __del__(self, *ignored: Any) -> None:
        """Nothing is open."""

    async def initialize(self, *ignored: Any, **options: Any) -> "Cluster":
        return self

    def get_nodes(self) -> Any:
        return ["a", "b"]

    def get_random_node(self) -> Any:
        return "b"

    async def ping(self, **options: Any) -> Any:
        [node] = options["target_nodes"]
        self.pinged.append(node)
        if node in self.lost:
            raise exceptions.ConnectionError


async def test_a_client_keeps_the_scores_of_vsim() -> None:
    redis = connect("redis://127.0.0.1:1")
    assert "VSIM" not in redis.response_callbacks
    await redis.aclose()
    with pytest.raises(InvalidArgument):
        connect("redis+cluster://")


async def test_one_server_is_pinged(redis: VectorRedis) -> None:
    await ping(redis)
    assert await any_node(redis) == {}
    redis.failure = exceptions.ConnectionError()
    with pytest.raises(exceptions.ConnectionError):
        await ping(redis)


async def test_a_cluster_answers_if_one_node_does() -> None:
    cluster = Cluster("a")
    await ping(cluster)
    assert cluster.pinged == ["a", "b"]
    assert await any_node(cluster) == {"target_nodes": ["b"]}
    with pytest.raises(exceptions.ConnectionError):
        await ping(Cluster("a", "b"))
