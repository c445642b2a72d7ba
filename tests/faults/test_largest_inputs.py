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
def test_the_largest_inputs_leave_the_gateway_responsive(redis_url: str) -> None:
    faults = run(redis_url, "", SHAPES)
    assert not faults, "\n".join(faults)
