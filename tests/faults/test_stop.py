"""The gateway in its own process shuts down in order, and reports missing backends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, twin_pb2, twin_pb2_grpc
from tests import processes
from tests.conftest import ROOT
from tests.ports import reserve_port
from tests.refusals import refusal
from tests.stack import channel, wait_until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def gateway(redis_url: str, prefix: str) -> Iterator[tuple[subprocess.Popen[bytes], grpc.Channel]]:
    """A gateway whose embedder and search are not running."""
    port = reserve_port()
    settings = {
        "MEMETWIN_GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "MEMETWIN_HTTP_LISTEN": f"127.0.0.1:{reserve_port()}",
        "MEMETWIN_EMBEDDER_ADDRESS": f"127.0.0.1:{reserve_port()}",
        "MEMETWIN_SEARCH_ADDRESS": f"127.0.0.1:{reserve_port()}",
        "MEMETWIN_REDIS_URL": redis_url,
        "MEMETWIN_REDIS_PREFIX": prefix,
        "MEMETWIN_SHUTDOWN_DELAY": "1",
    }
    words = [sys.executable, "-m", "services.gateway"]
    process = processes.start(words, environment=os.environ | settings, folder=ROOT)
    to_gateway = channel(f"127.0.0.1:{port}")
    try:
        wait_until(lambda: health(to_gateway, "liveness") == SERVING)
        yield process, to_gateway
    finally:
        to_gateway.close()
        processes.kill(process)


def health(to_gateway: grpc.Channel, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(to_gateway)
    status: int = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=2).status
    return status


def test_on_sigterm_it_reports_not_serving_and_then_exits_with_success(gateway: Any) -> None:
    process, to_gateway = gateway
    stub: Any = health_pb2_grpc.HealthStub(to_gateway)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="liveness"), timeout=60)
    assert next(watch).status == SERVING
    process.send_signal(signal.SIGTERM)
    assert [reply.status for reply in watch] == [NOT_SERVING]
    assert process.wait(60) == 0


def test_without_its_backends_calls_are_unavailable_and_it_stays_alive(gateway: Any) -> None:
    _, to_gateway = gateway
    unavailable = (grpc.StatusCode.UNAVAILABLE, "NEIGHBOUR_UNAVAILABLE")
    find = twin_pb2.FindTwinRequest(image=b"x")
    code, reason, hint = refusal(twin_pb2_grpc.TwinServiceStub(to_gateway).FindTwin, find)
    assert (code, reason) == unavailable
    assert hint is not None
    cache = cache_pb2_grpc.CacheServiceStub(to_gateway)
    lookup = cache_pb2.LookupEntryRequest(prompt="never asked before")
    assert refusal(cache.LookupEntry, lookup)[:2] == unavailable
    assert health(to_gateway, "memetwin.gateway.v1.TwinService") == NOT_SERVING
    assert health(to_gateway, "readiness") == NOT_SERVING
    assert health(to_gateway, "liveness") == SERVING
