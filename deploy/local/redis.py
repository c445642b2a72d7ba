"""Finds a Redis, once, and says which: yours, one on the PATH, a container, or Debian's package."""

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

IMAGE = "redis:8"
CONTAINER = "memetwin-redis"
FIRST_PORT = 6379
# The first major version with vector sets.
OLDEST = 8
# Known faults: research notes of Redis 8.2.9, 8.4.6, 8.6.6, 8.8.2 and 8.10.1 (August 2026).
_MENDED = {(8, 2): 9, (8, 4): 6, (8, 6): 6, (8, 8): 2, (8, 10): 1}
_NEED = """No Redis with vector search was found. Do one of these:
  - install Redis 8 or newer, so that redis-server is on the PATH
  - start a Docker engine that has, or can pull, the image redis:8
  - set MEMETWIN_REDIS_URL to a Redis 8 or newer"""


class NoRedis(Exception):
    """No Redis can be had; the message says what to install."""


@dataclass(frozen=True)
class Choice:
    """The Redis that was chosen.

    Attributes:
        kind: ``url``, ``path``, ``docker`` or ``debian``.
        command: words that run it; none for a foreign one.
        engine: ``query-engine`` or ``vector-sets``.
    """

    kind: str
    url: str
    version: str
    engine: str
    command: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def is_ours(self) -> bool:
        """Say whether we start and stop it."""
        return self.kind != "url"

    def sentence(self) -> str:
        """Say in one line which Redis it is."""
        origin = {
            "url": "yours, by MEMETWIN_REDIS_URL",
            "path": "redis-server of the PATH",
            "docker": f"container of {IMAGE}",
            "debian": "Debian 13's package",
        }[self.kind]
        return f"Redis {self.version} ({origin}; {self.engine}) at {self.url}"


def choose(state: Path, url: str) -> Choice:
    """Return the Redis to use: ``url`` if given, else what was chosen before, else what is found.

    ``state`` is the folder that all is kept in. The choice is written to ``redis.json``.

    Raises:
        NoRedis: there is none, or the one at ``url`` does not answer or lacks vector search.
    """
    if url:
        return _write(state, inspect("url", url))
    file = state / "redis.json"
    if file.exists():
        kept = Choice(**json.loads(file.read_text()))
        if kept.is_ours and _still_there(kept):
            return kept
    for find in (_on_path, _in_docker, _from_debian):
        command = find(state)
        if command:
            kind = find.__name__.rpartition("_")[2]
            port = _free_port()
            return _write(state, Choice(kind, f"redis://127.0.0.1:{port}", "?", "?", [*command]))
    raise NoRedis(_NEED)


def arguments(choice: Choice, state: Path) -> list[str]:
    """Return the words that start our Redis: on loopback, writes on disk before their reply."""
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


def inspect(kind: str, url: str, command: list[str] | None = None) -> Choice:
    """Ask a running Redis what it is.

    Raises:
        NoRedis: it does not answer, or has neither vector sets nor the Query Engine.
    """
    client: Any = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, protocol=2)
    client.response_callbacks.pop("COMMAND", None)
    try:
        version = str(client.info("server")["redis_version"])
        known = client.execute_command("COMMAND", "INFO", "VSIM", "FT.SEARCH")
        warnings = _warnings(client, version, ours=kind != "url")
    except redis.RedisError as error:
        raise NoRedis(f"The Redis at {url} does not answer: {error}") from error
    finally:
        client.close()
    if known[0] is None:
        raise NoRedis(f"Redis {version} at {url} has no vector sets: Redis 8.0 or newer is needed.")
    engine = "vector-sets" if known[1] is None else "query-engine"
    return Choice(kind, url, version, engine, command or [], warnings)


def settle(choice: Choice, state: Path) -> Choice:
    """Ask our Redis, now running, what it is, and write that down."""
    return _write(state, inspect(choice.kind, choice.url, choice.command))


def _warnings(client: Any, version: str, *, ours: bool) -> list[str]:
    found = []
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    if (numbers[0], numbers[1]) <= (8, 10) and numbers[2] < _MENDED.get(
        (numbers[0], numbers[1]), 10**6
    ):
        found.append(
            f"Redis {version} can read freed memory when vectors are removed during a"
            " background search (mended in 8.2.9, 8.4.6, 8.6.6, 8.8.2 and 8.10.1): searches run on"
            " its main thread instead."
        )
    if ours:
        return found
    try:
        config = client.config_get("appendonly", "appendfsync", "maxmemory-policy")
    except redis.RedisError:
        return [*found, "It does not tell its durability (CONFIG is refused)."]
    if config.get("appendonly") != "yes" or config.get("appendfsync") != "always":
        found.append(
            "It can lose acknowledged writes: appendonly yes, appendfsync always would not."
        )
    if config.get("maxmemory-policy") != "noeviction":
        found.append(f"It evicts keys ({config.get('maxmemory-policy')}): set noeviction.")
    return found


def _write(state: Path, choice: Choice) -> Choice:
    state.mkdir(parents=True, exist_ok=True)
    (state / "redis.json").write_text(json.dumps(asdict(choice), indent=2) + "\n")
    return choice


def _still_there(choice: Choice) -> bool:
    if choice.kind == "docker":
        return bool(_in_docker(Path()))
    return bool(choice.command) and all(Path(choice.command[n]).exists() for n in (0, -1))


def _on_path(state: Path) -> list[str]:
    program = shutil.which("redis-server")
    if not program:
        return []
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"v=(\d+)", told.stdout)
    return [program] if version and int(version[1]) >= OLDEST else []


def _in_docker(state: Path) -> list[str]:
    if not shutil.which("docker"):
        return []
    for words in (["image", "inspect", IMAGE], ["pull", "--quiet", IMAGE]):
        try:
            done = subprocess.run(["docker", *words], capture_output=True, check=False, timeout=120)
        except subprocess.TimeoutExpired:
            return []
        if done.returncode == 0:
            return ["docker"]
        if b"daemon" in done.stderr and b"response" not in done.stderr:
            return []  # no engine runs
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
        print(f"Debian's Redis cannot be had: {error}", file=sys.stderr)
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
    raise NoRedis(f"No port from {FIRST_PORT} to {FIRST_PORT + 99} is free.")


def url_from_environment() -> str:
    """Return the Redis that the environment names, if any."""
    return os.environ.get("MEMETWIN_REDIS_URL", "")
