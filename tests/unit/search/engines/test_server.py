import pytest
from redis import exceptions

from services.errors import FailedPrecondition, Unavailable
from services.search.engines.server import Server, probe
from tests.fakes.search_redis import VectorRedis


async def test_a_server_is_probed(redis: VectorRedis) -> None:
    assert await probe(redis) == Server("8.10.1", True, False, False)
    redis.query_engine = lambda *command: None
    assert (await probe(redis)).query_engine


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("8.0.3", False),
        ("8.2.8", False),
        ("8.2.9", True),
        ("8.3.9", False),
        ("8.10.0", False),
        ("8.10.1", True),
        ("8.12.0", True),
        ("9.0.0", True),
    ],
)
async def test_background_searches_need_a_fixed_version(
    redis: VectorRedis, version: str, expected: bool
) -> None:
    redis.version = version
    server = await probe(redis)
    assert server.supports_background_search is expected
    assert bool(server.warnings) is not expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"appendonly": "no"}, ["appendonly yes"]),
        ({"appendonly": "yes", "appendfsync": "everysec"}, ["appendfsync always"]),
        ({"maxmemory-policy": "allkeys-lru"}, ["maxmemory-policy noeviction"]),
        ({}, []),
    ],
)
async def test_settings_that_lose_data_are_warned_of(
    redis: VectorRedis, settings: dict[str, str], words: list[str]
) -> None:
    redis.settings = settings
    warnings = (await probe(redis)).warnings
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))


class HidesSettings(VectorRedis):
    error: Exception = exceptions.ResponseError("unknown command")

    async def config_get(self, *names: str) -> dict[str, str]:
        raise self.error


async def test_a_server_can_hide_its_settings() -> None:
    redis = HidesSettings()
    assert (await probe(redis)).warnings == []
    redis.error = exceptions.ConnectionError()
    with pytest.raises(Unavailable):
        await probe(redis)


def test_an_engine_that_is_missing_is_refused() -> None:
    vector_sets, neither = Server("8.0", True, False, False), Server("7.2", False, False, False)
    vector_sets.require("vector_sets")
    vector_sets.require_vectors()
    with pytest.raises(FailedPrecondition) as caught:
        vector_sets.require("query_engine")
    assert caught.value.reason == "NEEDS_QUERY_ENGINE"
    with pytest.raises(FailedPrecondition) as caught:
        neither.require_vectors()
    assert caught.value.reason == "NEEDS_VECTOR_SETS"
