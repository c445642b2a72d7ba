import json
from pathlib import Path

import pytest

from deploy.local.redis import NoRedis, choose, inspect
from tests.redis_server import RedisServer


def test_a_foreign_redis_is_taken_and_its_faults_are_told(redis_url: str, tmp_path: Path) -> None:
    choice = choose(tmp_path, redis_url)
    assert (choice.kind, choice.url, choice.is_managed) == ("url", redis_url, False)
    assert json.loads((tmp_path / "redis.json").read_text())["version"] == choice.version
    assert "(MEMETWIN_REDIS_URL;" in choice.describe()


def test_lost_durability_and_eviction_are_warned_of(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    with server.client() as client:
        client.config_set("appendfsync", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
    warnings = "\n".join(inspect("url", server.url).warnings)
    server.stop()
    assert "lose acknowledged writes" in warnings
    assert "evicts keys (allkeys-lru)" in warnings


def test_no_answer_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoRedis, match="is unreachable"):
        choose(tmp_path, "redis://127.0.0.1:1")


def test_our_own_writes_through(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    with server.client() as client:
        assert client.config_get("appendfsync")["appendfsync"] == "always"
        assert client.config_get("bind")["bind"] == "127.0.0.1"
        client.execute_command("VADD", "v", "VALUES", 2, 1, 0, "a")
    server.kill()
    server.start()
    with server.client() as client:
        assert client.execute_command("VCARD", "v") == 1
    server.stop()
