"""The largest legal input of every rpc and route leaves the gateway responsive."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import largest_bodies, largest_messages
from tests.bench.largest_inputs import run
from tests.bench.largest_messages import SHAPES
from tests.bench.loop_watchdog import read_holds


def test_every_rpc_has_an_input() -> None:
    for _, method in largest_messages.rpcs():
        assert list(largest_messages.requests(method, SHAPES[0]))


def test_every_route_has_an_input() -> None:
    for route in asyncio.run(largest_bodies.routes()):
        assert list(largest_bodies.bodies(route, SHAPES[0]))


def test_the_watchdog_names_what_holds_the_event_loop(tmp_path: Path) -> None:
    service = """
import asyncio, time, uvloop
def busy():
    end = time.thread_time() + 0.2
    while time.thread_time() < end:
        pass
async def main():
    await asyncio.sleep(0.1)
    busy()
    await asyncio.sleep(0.1)
uvloop.run(main())
"""
    (tmp_path / "held_service.py").write_text(service)
    command = [sys.executable, "-m", "tests.bench.loop_watchdog", "holds", "held_service"]
    path = os.pathsep.join((str(tmp_path), *sys.path))
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True)
    longest = read_holds(tmp_path / "holds", 0.0)[0]
    assert longest.seconds > 0.1
    assert any("busy" in stack for stack in longest.stacks)


@pytest.mark.long
def test_the_largest_inputs_end_with_a_status_and_within_the_memory(redis_url: str) -> None:
    """Times depend on the machine, so only the benchmark judges them."""
    faults = run(redis_url, "", SHAPES[1:4])
    broken = {
        name: bounds
        for name, bounds in faults.items()
        if any(bound.startswith(("outcome", "memory")) for bound in bounds)
    }
    assert not broken
