from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster

from services import redis_client
from services.errors import InvalidArgument


def test_the_url_of_one_server_is_left_to_redis_py() -> None:
    for url in ("redis://h:1/2", "rediss://u:p@h", "unix:///run/redis.sock"):
        assert redis_client.parse_url(url) is None


def test_sentinel_and_cluster_urls_are_parsed() -> None:
    found = redis_client.parse_url(
        "rediss+sentinel://me:p%40ss@a:1,[::1]:2,c/cache/3?ssl_ca_certs=/ca.pem"
    )
    assert found is not None
    assert found.topology == "sentinel"
    assert found.hosts == [("a", 1), ("::1", 2), ("c", 26379)]
    assert found.path == ["cache", "3"]
    assert found.options == {
        "username": "me",
        "password": "p@ss",
        "ssl": True,
        "ssl_ca_certs": "/ca.pem",
    }
    cluster = redis_client.parse_url("redis+cluster://a,b:7001")
    assert cluster is not None
    assert (cluster.topology, cluster.hosts) == ("cluster", [("a", 6379), ("b", 7001)])


@pytest.mark.parametrize(
    "url", ["http+cluster://a", "redis+other://a", "redis+cluster://", "redis+cluster://a:x"]
)
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument):
        redis_client.parse_url(url)


@pytest.mark.parametrize("url", ["redis://:pa/ss@host", "redis://:p[a]ss@host:port", "pass"])
def test_an_invalid_url_is_refused_without_a_part_of_its_password(url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        redis_client.connect(url, max_connections=1, timeout=1)
    assert "pa" not in str(caught.value).replace("password", "")
    assert caught.value.__cause__ is None


def test_a_sentinel_url_without_a_service_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="service"):
        redis_client.connect("redis+sentinel://a", max_connections=1, timeout=1)


def test_one_server_gets_a_bounded_pool_that_does_not_retry() -> None:
    client = redis_client.connect("redis://h:7/2", max_connections=3, timeout=4)
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert isinstance(pool, BlockingConnectionPool)
    assert pool.max_connections == 3
    options = pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("h", 7, 2)
    assert options["socket_timeout"] == 4
    assert options["retry"].get_retries() == 0


def test_a_sentinel_client_asks_the_sentinels_without_the_password() -> None:
    client = redis_client.connect(
        "redis+sentinel://me:secret@a:1,b:2/cache/3", max_connections=1, timeout=1
    )
    pool = client.connection_pool
    assert (pool.service_name, pool.connection_kwargs["db"]) == ("cache", 3)
    assert pool.connection_kwargs["password"] == "secret"
    sentinels = pool.sentinel_manager.sentinels
    assert [one.connection_pool.connection_kwargs["host"] for one in sentinels] == ["a", "b"]
    assert not any(one.connection_pool.connection_kwargs.get("password") for one in sentinels)


def test_a_cluster_client_starts_from_all_nodes() -> None:
    client = redis_client.connect("redis+cluster://a,b:7001", max_connections=1, timeout=1)
    assert isinstance(client, RedisCluster)
    assert sorted(client.nodes_manager.startup_nodes) == ["a:6379", "b:7001"]


async def test_closing_a_sentinel_client_closes_its_sentinels() -> None:
    client = redis_client.connect("redis+sentinel://a/cache", max_connections=1, timeout=1)
    closed = []

    async def aclose(*args: Any) -> None:
        closed.append("sentinel")

    [sentinel] = client.connection_pool.sentinel_manager.sentinels
    sentinel.aclose = aclose
    await redis_client.close(client)
    assert closed == ["sentinel"]
