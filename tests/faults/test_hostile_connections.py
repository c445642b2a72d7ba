"""A gateway under slow connections, half-open calls and rapid resets serves everybody else."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from tests import processes
from tests.conftest import ROOT
from tests.ports import reserve_port
from tests.service_process import ServiceProcess
from tests.stack import wait_until

KEY = "the key"
LOOKUP = cache_pb2.LookupEntryRequest(prompt="Who?", mode=cache_pb2.LOOKUP_MODE_EXACT)
MIB = 2**20
# What a gateway may take in addition while it is attacked.
MAX_GROWTH = 512 * MIB
SMALL = {"slow": 200, "half": 2_000, "reset": 8}
LARGE = {"slow": 2_000, "half": 20_000, "reset": 8}
SECONDS = 60


class Gateway:
    """A gateway in its own process, with or without keys, which needs Redis only."""

    def __init__(self, redis_url: str, prefix: str, keys_file: str) -> None:
        unused = f"127.0.0.1:{reserve_port()}"
        self.process = ServiceProcess(
            "gateway",
            REDIS_URL=redis_url,
            REDIS_PREFIX=prefix,
            EMBEDDER_ADDRESS=unused,
            SEARCH_ADDRESS=unused,
            API_KEYS_FILE=keys_file,
        )
        self._stub: Any = cache_pb2_grpc.CacheServiceStub(self.process.channel)
        self._metadata = (("authorization", f"Bearer {KEY}"),) if keys_file else ()
        wait_until(self.lookup)

    def lookup(self) -> float | None:
        """Look up an entry; return how many milliseconds that took, or None if it was refused."""
        started = time.perf_counter()
        try:
            self._stub.LookupEntry(LOOKUP, timeout=30, metadata=self._metadata)
        except grpc.RpcError as error:
            failed: Any = error
            if failed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                return None
            raise
        return (time.perf_counter() - started) * 1000

    def lookups(self, seconds: float) -> tuple[list[float], int]:
        """Look up entries for some time; return their milliseconds, and how many were refused."""
        end, durations, refused = time.monotonic() + seconds, list[float](), 0
        while time.monotonic() < end or len(durations) < 100:
            duration = self.lookup()
            if duration is None:
                refused += 1
            else:
                durations.append(duration)
            time.sleep(0.005)
        return sorted(durations), refused

    def memory(self) -> int:
        process = psutil.Process(self.process.pid)
        family = [process, *process.children(recursive=True)]
        return sum(one.memory_info().rss for one in family)


def p99(durations: list[float]) -> float:
    return round(durations[len(durations) * 99 // 100], 2)


@pytest.fixture(params=["with keys", "without keys"])
def gateway(
    redis_url: str, prefix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Gateway]:
    file = tmp_path / "keys.json"
    row = {"sha256": hashlib.sha256(KEY.encode()).hexdigest(), "tenant": "acme"}
    file.write_text(json.dumps([row]))
    one = Gateway(redis_url, prefix, str(file) if request.param == "with keys" else "")
    yield one
    one.process.close()


def attack(gateway: Gateway, kind: str, count: int) -> Any:
    """Start an attack in its own process."""
    address = gateway.process.http_address if kind == "slow" else gateway.process.address
    command = [sys.executable, "-m", "tests.hostile", kind, address, str(count)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "protos" / "gen")])
    return processes.start(command, environment=os.environ | {"PYTHONPATH": paths}, folder=ROOT)


@pytest.mark.parametrize("kind", SMALL)
def test_an_attack_leaves_room_for_others(gateway: Gateway, kind: str) -> None:
    idle = gateway.memory()
    attacker = attack(gateway, kind, SMALL[kind])
    served, refused = gateway.lookups(6)
    assert attacker.poll() is None
    processes.kill(attacker)
    assert len(served) > refused
    assert gateway.memory() - idle < MAX_GROWTH


@pytest.mark.long
@pytest.mark.parametrize("kind", LARGE)
def test_a_large_attack_costs_little_time_and_memory(
    gateway: Gateway, kind: str, record_property: Any
) -> None:
    gateway.lookups(3)
    idle, idle_memory = gateway.lookups(10)[0], gateway.memory()
    attacker = attack(gateway, kind, LARGE[kind])
    attacked, refused = gateway.lookups(SECONDS)
    assert attacker.poll() is None
    growth = gateway.memory() - idle_memory
    processes.kill(attacker)
    figures = {
        "p99 idle, ms": p99(idle),
        "p99 attacked, ms": p99(attacked),
        "refused": refused,
        "growth, MiB": growth // MIB,
    }
    for name, value in figures.items():
        record_property(name, value)
    print(kind, figures)
    assert growth < MAX_GROWTH
