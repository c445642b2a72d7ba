"""Fixtures for Redis, the development data and the stack, and a report of the tests left out."""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.stack import Stack

ROOT = Path(__file__).parents[1]
_left_out: list[str] = []
# Every run tries the same examples, and a slow machine does not fail.
settings.register_profile(
    "memetwin", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("memetwin")


def data_folder() -> Path:
    """The folder of development data, which may not exist."""
    return Path(os.environ.get("MEMETWIN_TEST_DATA") or ROOT / ".." / "shared" / "data")


def leave_out(reason: str) -> None:
    """Skip a test because something is missing. Under CI, the test fails instead."""
    if os.environ.get("CI"):
        pytest.fail(f"left out under CI: {reason}")
    _left_out.append(reason)
    pytest.skip(reason)


def note_left_out(what: str) -> None:
    """Report at the end of the run something that this machine cannot test."""
    _left_out.append(what)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run unit tests first: they replace clocks, and later tests run a stack in a thread."""
    items.sort(key=lambda item: ROOT / "tests/unit" not in item.path.parents)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what a worker has left out to the process that reports it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = _left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _left_out.extend(getattr(node, "workeroutput", {}).get("left_out", []))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.section("left out")
    terminalreporter.line("\n".join(sorted(set(_left_out))) or "nothing")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of development data. Tests that need it are skipped if it is absent."""
    folder = data_folder()
    if not folder.is_dir():
        if os.environ.get("MEMETWIN_TEST_DATA"):
            pytest.fail(f"MEMETWIN_TEST_DATA is not a folder: {folder}")
        _left_out.append("no development data (MEMETWIN_TEST_DATA)")
        pytest.skip("no development data")
    return folder


@pytest.fixture(scope="session")
def questions(data: Path) -> list[str]:
    """Distinct real questions."""
    rows = map(json.loads, (data / "question_pairs.jsonl").read_text().splitlines())
    return list(dict.fromkeys(row["a"] for row in rows))


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis: MEMETWIN_TEST_REDIS_URL, a container, or one that deploy/local finds."""
    url = os.environ.get("MEMETWIN_TEST_REDIS_URL")
    image = os.environ.get("MEMETWIN_TEST_REDIS_IMAGE") or "redis:8"
    if url:
        yield url
    elif _has_image(image):
        yield from _container(image)
    else:
        from tests.redis_server import RedisServer

        server = RedisServer(tmp_path_factory.mktemp("redis"))
        try:
            yield server.url
        finally:
            server.stop()


def _has_image(image: str) -> bool:
    if not shutil.which("docker"):
        return False
    for command in (["image", "inspect", image], ["pull", "--quiet", image]):
        done = subprocess.run(["docker", *command], capture_output=True, check=False)
        if done.returncode == 0:
            return True
    return False


def _container(image: str) -> Iterator[str]:
    # Ryuk, which cleans up after killed tests, is a separate image that may be missing.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.community.redis import RedisContainer

    with RedisContainer(image) as container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}"


@pytest.fixture(scope="session")
def prefix(redis_url: str) -> Iterator[str]:
    """A key prefix for this run. Its keys and indexes are deleted at the end."""
    prefix = f"test-{uuid.uuid4()}:"
    yield prefix
    client: Any = redis.Redis.from_url(redis_url)
    _drop_indexes(client, prefix)
    keys = list(client.scan_iter(f"{prefix}*", count=1000))
    for first in range(0, len(keys), 1000):
        client.unlink(*keys[first : first + 1000])
    client.close()


def _drop_indexes(client: Any, prefix: str) -> None:
    try:
        names = client.execute_command("FT._LIST")
    except redis.ResponseError:  # the server has no Query Engine
        return
    for name in names:
        if name.decode().startswith(prefix):
            client.execute_command("FT.DROPINDEX", name)


@pytest.fixture(scope="session")
def stack(redis_url: str, prefix: str) -> Iterator["Stack"]:
    """The three services, ready."""
    from tests.stack import Stack, wait_until_ready

    running = Stack(redis_url, prefix)
    try:
        wait_until_ready(running)
        yield running
    finally:
        running.close()
