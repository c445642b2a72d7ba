"""The largest legal input of every rpc and route leaves the gateway responsive."""

import asyncio

import pytest

from tests.bench import largest_bodies, largest_messages
from tests.bench.largest_inputs import run
from tests.bench.largest_messages import SHAPES


def test_every_rpc_has_an_input() -> None:
    for _, method in largest_messages.rpcs():
        assert list(largest_messages.requests(method, SHAPES[0]))


def test_every_route_has_an_input() -> None:
    for route in asyncio.run(largest_bodies.routes()):
        assert list(largest_bodies.bodies(route, SHAPES[0]))


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
