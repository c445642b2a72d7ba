import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from deploy.local import redis
from deploy.local.redis import RedisChoice

MANAGED = RedisChoice("path", "redis://127.0.0.1:7000", "8.2.1", "vector-sets", ["redis-server"])
DURABLE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


class FakeRedis:
    """Answers CONFIG GET."""

    def __init__(self, **config: str) -> None:
        self._config = DURABLE | {name.replace("_", "-"): value for name, value in config.items()}

    def config_get(self, *names: str) -> dict[str, str]:
        return {name: self._config[name] for name in names}


def options(command: list[str]) -> dict[str, str]:
    pairs = itertools.pairwise(command)
    return {name.removeprefix("--"): value for name, value in pairs if name.startswith("--")}


def test_a_managed_redis_listens_on_loopback_and_writes_through(tmp_path: Path) -> None:
    command = redis.command_line(MANAGED, tmp_path)
    found = options(command)
    assert command[0] == "redis-server"
    assert (found["bind"], found["port"]) == ("127.0.0.1", "7000")
    assert (found["appendonly"], found["appendfsync"]) == ("yes", "always")
    assert Path(found["dir"]).is_dir()


def test_a_container_publishes_its_port_on_loopback_alone(tmp_path: Path) -> None:
    choice = RedisChoice("docker", "redis://127.0.0.1:7000", "?", "?", ["docker"])
    command = redis.command_line(choice, tmp_path)
    assert command[:3] == ["docker", "run", "--rm"]
    assert "--publish=127.0.0.1:7000:7000" in command


def test_the_earlier_choice_is_used_again_while_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "redis-server"
    program.touch()
    choice = RedisChoice("path", "redis://127.0.0.1:7000", "8", "vector-sets", [str(program)])
    redis._write(tmp_path, choice)
    assert redis.choose(tmp_path, "") == choice
    program.unlink()
    for name in ("_on_path", "_in_docker", "_from_debian"):
        monkeypatch.setattr(redis, name, _nothing)
    with pytest.raises(redis.NoRedis, match="install Redis 8"):
        redis.choose(tmp_path, "")


def _nothing(state: Path) -> list[str]:
    return []


def test_a_new_choice_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def _on_path(state: Path) -> list[str]:
        return ["/usr/bin/redis-server"]

    monkeypatch.setattr(redis, "_on_path", _on_path)
    choice = redis.choose(tmp_path, "")
    assert (choice.kind, choice.command) == ("path", ["/usr/bin/redis-server"])
    assert json.loads((tmp_path / "redis.json").read_text())["kind"] == "path"


@pytest.mark.parametrize(
    ("version", "config", "warning"),
    [
        ("8.2.8", {}, "can read freed memory"),
        ("8.2.9", {"appendfsync": "everysec"}, "lose acknowledged writes"),
        ("8.2.9", {"maxmemory_policy": "allkeys-lru"}, "evicts keys (allkeys-lru)"),
    ],
)
def test_a_problem_is_reported(version: str, config: dict[str, str], warning: str) -> None:
    client: Any = FakeRedis(**config)
    [found] = redis._warnings(client, version, managed=False)
    assert warning in found


def test_a_sound_redis_has_no_warnings() -> None:
    client: Any = FakeRedis()
    assert redis._warnings(client, "8.2.9", managed=False) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:pa@ss@host:1/2", "redis://me:***@host:1/2"),
        ("redis://:secret@host", "redis://:***@host"),
        ("redis+cluster://me:secret@a:1,b:2", "redis+cluster://me:***@a:1,b:2"),
        ("redis://host:6379", "redis://host:6379"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert redis.without_password(url) == shown
    assert shown in RedisChoice("url", url, "8", "query-engine").describe()


def test_only_the_owner_can_read_the_choice(tmp_path: Path) -> None:
    file = tmp_path / "state" / "redis.json"
    file.parent.mkdir()
    file.write_text("from an earlier version")
    redis._write(file.parent, RedisChoice("url", "redis://:secret@host", "8", "vector-sets"))
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["url"] == "redis://:secret@host"
