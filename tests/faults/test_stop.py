"""A service as its own process: told to stop it ends in order; with a neighbour away it says so."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, twin_pb2, twin_pb2_grpc
from services import deadlines
from services.errors import DeadlineExceeded
from tests.conftest import ROOT
from tests.redis_server import free_port
from tests.refusals import refusal
from tests.stack import channel, wait_until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def gateway(redis_url: str, prefix: str) -> Iterator[tuple[subprocess.Popen[bytes], grpc.Channel]]:
    """A gateway whose embedder and search are away."""
    port = free_port()
    settings = {
        "MEMETWIN_GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "MEMETWIN_HTTP_LISTEN": f"127.0.0.1:{free_port()}",
        "MEMETWIN_EMBEDDER_ADDRESS": f"127.0.0.1:{free_port()}",
        "MEMETWIN_SEARCH_ADDRESS": f"127.0.0.1:{free_port()}",
        "MEMETWIN_REDIS_URL": redis_url,
        "MEMETWIN_REDIS_PREFIX": prefix,
        "MEMETWIN_SHUTDOWN_DELAY": "1",
    }
    words = [sys.executable, "-m", "services.gateway"]
    process = subprocess.Popen(words, cwd=ROOT, env=os.environ | settings)
    dialled = channel(f"127.0.0.1:{port}")
    wait_until(lambda: health(dialled, "liveness") == SERVING)
    yield process, dialled
    dialled.close()
    process.kill()
    process.wait()


def health(dialled: grpc.Channel, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(dialled)
    status: int = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=2).status
    return status


def test_it_says_not_serving_then_ends_well(gateway: Any) -> None:
    process, dialled = gateway
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: health(dialled, "liveness") == NOT_SERVING, 5)
    assert process.wait(20) == 0


def test_without_neighbours_calls_are_unavailable_and_it_lives(gateway: Any) -> None:
    _, dialled = gateway
    unavailable = (grpc.StatusCode.UNAVAILABLE, "NEIGHBOUR_UNAVAILABLE")
    find = twin_pb2.FindTwinRequest(image=b"x")
    code, reason, hint = refusal(twin_pb2_grpc.TwinServiceStub(dialled).FindTwin, find)
    assert (code, reason) == unavailable
    assert hint is not None
    cache = cache_pb2_grpc.CacheServiceStub(dialled)
    lookup = cache_pb2.LookupEntryRequest(prompt="never asked before")
    assert refusal(cache.LookupEntry, lookup)[:2] == unavailable
    assert health(dialled, "memetwin.gateway.v1.TwinService") == NOT_SERVING
    assert health(dialled, "readiness") == NOT_SERVING
    assert health(dialled, "liveness") == SERVING


def test_an_outgoing_call_never_outlives_its_callers() -> None:
    assert deadlines.time_left() is None
    with deadlines.limit(5):
        left = deadlines.time_left()
        assert left is not None
        assert 4 < left < 5
    with deadlines.limit(0), pytest.raises(DeadlineExceeded):
        deadlines.time_left()


def test_a_past_deadline_is_told(stack: Any) -> None:
    stub = embedder_pb2_grpc.EmbedderServiceStub(stack.embedder)
    inputs = [embedder_pb2.Input(text=f"{number} " * 200) for number in range(60)]
    with pytest.raises(grpc.RpcError) as caught:
        stub.Embed(embedder_pb2.EmbedRequest(inputs=inputs), timeout=0.05)
    error: Any = caught.value
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
