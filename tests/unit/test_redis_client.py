import pytest

from services import redis_client
from services.errors import InvalidArgument


def test_one_server_is_left_to_the_client() -> None:
    for url in ("redis://h:1/2", "rediss://u:p@h", "unix:///run/redis.sock"):
        assert redis_client.read(url) is None


def test_sentinels_and_clusters_are_read() -> None:
    found = redis_client.read(
        "rediss+sentinel://me:p%40ss@a:1,[::1]:2,c/cache/3?ssl_ca_certs=/ca.pem"
    )
    assert found is not None
    assert found.kind == "sentinel"
    assert found.hosts == [("a", 1), ("::1", 2), ("c", 26379)]
    assert found.path == ["cache", "3"]
    assert found.options == {
        "username": "me",
        "password": "p@ss",
        "ssl": True,
        "ssl_ca_certs": "/ca.pem",
    }
    cluster = redis_client.read("redis+cluster://a,b:7001")
    assert cluster is not None
    assert (cluster.kind, cluster.hosts) == ("cluster", [("a", 6379), ("b", 7001)])


@pytest.mark.parametrize(
    "url", ["http+cluster://a", "redis+other://a", "redis+cluster://", "redis+cluster://a:x"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument):
        redis_client.read(url)


def test_a_sentinel_needs_a_service() -> None:
    with pytest.raises(InvalidArgument, match="service"):
        redis_client.connect("redis+sentinel://a", connections=1, timeout=1)
