"""Every feature works for a Redis user with the rights that the documentation names."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from tests.attacks.world import CONTROL, World
from tests.language_model import LanguageModelServer, running
from tests.pages import page
from tests.redis_server import RedisServer

PREFIX = "memetwin:"


@pytest.fixture
def model() -> Iterator[LanguageModelServer]:
    with running() as one:
        yield one


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    one = RedisServer(tmp_path)
    yield one
    one.stop()


def documented_rule() -> list[str]:
    """Return the words of the rule in the documentation."""
    text = page("docs/deployment.md").text.partition("**Rights.**")[2]
    found = re.search(r"^ACL SETUSER (memetwin on .*)$", text, re.M)
    assert found, "the documentation has no rule"
    return found[1].split()


def test_every_feature_works_with_the_documented_rights(
    server: RedisServer, tmp_path: Path, model: LanguageModelServer
) -> None:
    name, *rule = documented_rule()
    with server.client() as client:
        client.execute_command("ACL SETUSER", name, *rule)
    password = next(word[1:] for word in rule if word.startswith(">"))
    url = server.url.replace("redis://", f"redis://{name}:{quote(password, safe='')}@")
    world = World(url, PREFIX, tmp_path, model.url)
    try:
        world.seed(CONTROL)
        with server.client() as client:
            log = client.execute_command("ACL LOG")
        denied = {(entry["reason"], entry["object"]) for entry in map(_decoded, log)}
        # Search asks for the settings of persistence, and does without them.
        assert {what for _, what in denied} <= {"config|get"}, denied
    finally:
        world.close()
    with redis.Redis.from_url(url) as user:
        for command in ("GET other:key", "FLUSHALL", "CONFIG SET maxmemory 0", "KEYS *"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                user.execute_command(*command.split())


def _decoded(entry: object) -> dict[str, str]:
    items = entry.items() if isinstance(entry, dict) else zip(entry[::2], entry[1::2], strict=True)  # type: ignore[index]
    return {_text(name): _text(value) for name, value in items}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
