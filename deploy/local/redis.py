"""Finds a Redis: the user's, one on the PATH, a container, or Debian's package.

The choice is stored in ``redis.json``, so that later starts use the same Redis.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis

from deploy.local import debian
from deploy.local.processes import write_private

IMAGE = "redis:8"
CONTAINER = "memetwin-redis"
FIRST_PORT = 6379
# The first major version with vector sets.
MIN_VERSION = 8
# The patch release of each minor version that fixes a use after free in vector sets.
# Source: release notes of Redis 8.2.9, 8.4.6, 8.6.6, 8.8.2 and 8.10.1 (August 2026).
_FIXED_IN = {(8, 2): 9, (8, 4): 6, (8, 6): 6, (8, 8): 2, (8, 10): 1}
_NOT_FOUND = """No Redis with vector search was found. Do one of the following:
  - install Redis 8 or newer, so that redis-server is on the PATH
  - start a Docker engine that has or can pull the image redis:8
  - set MEMETWIN_REDIS_URL to a Redis 8 or newer"""


class NoRedis(Exception):
    """No suitable Redis is available. The message says what to do."""


@dataclass(frozen=True)
class RedisChoice:
    """The chosen Redis.

    Attributes:
        kind: ``url``, ``path``, ``docker`` or ``debian``.
        url: URL of the Redis.
        version: version of the Redis; ``?`` before its first start.
        command: command that starts it, without arguments; empty for the user's own Redis.
        engine: ``query-engine`` or ``vector-sets``; ``?`` before its first start.
        warnings: known problems of this Redis.
    """

    kind: str
    url: str
    version: str
    engine: str
    command: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_managed(self) -> bool:
        """Whether this module starts and stops the Redis."""
        return self.kind != "url"

    def describe(self) -> str:
        """Return version, origin, engine and URL as one line."""
        origin = {
            "url": "MEMETWIN_REDIS_URL",
            "path": "redis-server on the PATH",
            "docker": f"container {IMAGE}",
            "debian": "package of Debian 13",
        }[self.kind]
        return f"Redis {self.version} ({origin}; {self.engine}) at {without_password(self.url)}"


def without_password(url: str) -> str:
    """Return a URL with ``***`` in place of its password."""
    return re.sub(r"(//[^/@:]*:)[^/]*@", r"\1***@", url)


def choose(state: Path, url: str) -> RedisChoice:
    """Return the Redis at ``url``, or the one chosen earlier, or the first one found.

    Args:
        state: folder for the choice and for the files of a managed Redis.
        url: URL of the user's Redis, or empty.

    Raises:
        NoRedis: none is found, or the one at ``url`` is unreachable or lacks vector search.
    """
    if url:
        return _write(state, inspect("url", url))
    file = state / "redis.json"
    if file.exists():
        stored = RedisChoice(**json.loads(file.read_text()))
        if stored.is_managed and _is_available(stored):
            return stored
    for find in (_on_path, _in_docker, _from_debian):
        command = find(state)
        if command:
            kind = find.__name__.rpartition("_")[2]
            port = _free_port()
            return _write(
                state, RedisChoice(kind, f"redis://127.0.0.1:{port}", "?", "?", [*command])
            )
    raise NoRedis(_NOT_FOUND)


def command_line(choice: RedisChoice, state: Path) -> list[str]:
    """Return the command that starts a managed Redis.

    It listens on loopback and writes every change to disk before it replies.
    """
    data = state / "redis-data"
    data.mkdir(parents=True, exist_ok=True)
    port = choice.url.rpartition(":")[2]
    settings = {
        "port": port,
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "busy-reply-threshold": "60000",
        "save": "",
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    if choice.kind != "docker":
        return [*choice.command, "--bind", "127.0.0.1", "--dir", str(data), *options]
    published = [f"--publish=127.0.0.1:{port}:{port}", f"--volume={data.absolute()}:/data"]
    run = ["docker", "run", "--rm", f"--name={CONTAINER}-{port}", *published, IMAGE]
    return [*run, "redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", *options]  # noqa: S104


def inspect(kind: str, url: str, command: list[str] | None = None) -> RedisChoice:
    """Return the version, the engine and the known problems of a running Redis.

    Raises:
        NoRedis: it is unreachable or has no vector sets.
    """
    client: Any = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, protocol=2)
    client.response_callbacks.pop("COMMAND", None)
    try:
        version = str(client.info("server")["redis_version"])
        commands = client.execute_command("COMMAND", "INFO", "VSIM", "FT.SEARCH")
        warnings = _warnings(client, version, managed=kind != "url")
    except redis.RedisError as error:
        raise NoRedis(f"The Redis at {without_password(url)} is unreachable: {error}") from error
    finally:
        client.close()
    if commands[0] is None:
        raise NoRedis(
            f"Redis {version} at {without_password(url)} has no vector sets."
            " Use Redis 8.0 or newer."
        )
    engine = "vector-sets" if commands[1] is None else "query-engine"
    return RedisChoice(kind, url, version, engine, command or [], warnings)


def inspect_running(choice: RedisChoice, state: Path) -> RedisChoice:
    """Inspect a managed Redis that has been started, and store the result."""
    return _write(state, inspect(choice.kind, choice.url, choice.command))


def _warnings(client: Any, version: str, *, managed: bool) -> list[str]:
    warnings = []
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    if (numbers[0], numbers[1]) <= (8, 10) and numbers[2] < _FIXED_IN.get(
        (numbers[0], numbers[1]), 10**6
    ):
        warnings.append(
            f"Redis {version} can read freed memory when vectors are removed during a"
            " background search. memetwin therefore runs searches on the main thread of Redis. This"
            " is fixed in 8.2.9, 8.4.6, 8.6.6, 8.8.2 and 8.10.1."
        )
    if managed:
        return warnings
    try:
        config = client.config_get("appendonly", "appendfsync", "maxmemory-policy")
    except redis.RedisError:
        return [*warnings, "Its durability is unknown, because it refuses CONFIG."]
    if config.get("appendonly") != "yes" or config.get("appendfsync") != "always":
        warnings.append(
            "It can lose acknowledged writes. Set appendonly yes and appendfsync always."
        )
    if config.get("maxmemory-policy") != "noeviction":
        warnings.append(
            f"It evicts keys ({config.get('maxmemory-policy')}). Set maxmemory-policy noeviction."
        )
    return warnings


def _write(state: Path, choice: RedisChoice) -> RedisChoice:
    write_private(state / "redis.json", json.dumps(asdict(choice), indent=2) + "\n")
    return choice


def _is_available(choice: RedisChoice) -> bool:
    if choice.kind == "docker":
        return bool(_in_docker(Path()))
    return bool(choice.command) and all(Path(choice.command[n]).exists() for n in (0, -1))


def _on_path(state: Path) -> list[str]:
    program = shutil.which("redis-server")
    if not program:
        return []
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"v=(\d+)", done.stdout)
    return [program] if version and int(version[1]) >= MIN_VERSION else []


def _in_docker(state: Path) -> list[str]:
    if not shutil.which("docker"):
        return []
    for command in (["image", "inspect", IMAGE], ["pull", "--quiet", IMAGE]):
        try:
            done = subprocess.run(
                ["docker", *command], capture_output=True, check=False, timeout=120
            )
        except subprocess.TimeoutExpired:
            return []
        if done.returncode == 0:
            return ["docker"]
        if b"daemon" in done.stderr and b"response" not in done.stderr:
            return []  # no Docker engine is running
    return []


def _from_debian(state: Path) -> list[str]:
    if not shutil.which("apt-get"):
        return []
    folder = state / "redis" / debian.SUITE
    try:
        if not folder.exists():
            print("Fetching Redis 8 from Debian 13, about a minute …", file=sys.stderr)
            debian.fetch(folder)
        return debian.command(folder)
    except debian.CannotFetch as error:
        print(f"Cannot install Redis from Debian: {error}", file=sys.stderr)
        return []


def _free_port() -> int:
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise NoRedis(
        f"No port from {FIRST_PORT} to {FIRST_PORT + 99} is free for Redis. Free one of them."
    )


def url_from_environment() -> str:
    """Return ``MEMETWIN_REDIS_URL``, or an empty string."""
    return os.environ.get("MEMETWIN_REDIS_URL", "")
