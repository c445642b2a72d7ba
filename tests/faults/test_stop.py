"""The gateway in its own process shuts down in order, and reports missing backends."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, twin_pb2, twin_pb2_grpc
from services.grpc_server import GRACE_PERIOD
from tests import language_model, processes
from tests.conftest import ROOT
from tests.language_model import LanguageModelServer
from tests.ports import reserve_port
from tests.refusals import refusal
from tests.stack import channel, wait_until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


HTTP_PORT = reserve_port()


@pytest.fixture
def language_model_server() -> Iterator[LanguageModelServer]:
    with language_model.running() as server:
        yield server


@contextlib.contextmanager
def running(
    redis_url: str, prefix: str, **settings: str
) -> Iterator[tuple[subprocess.Popen[bytes], grpc.Channel]]:
    """A gateway whose embedder and search are not running."""
    port = reserve_port()
    settings |= {
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "HTTP_LISTEN": f"127.0.0.1:{HTTP_PORT}",
        "EMBEDDER_ADDRESS": f"127.0.0.1:{reserve_port()}",
        "SEARCH_ADDRESS": f"127.0.0.1:{reserve_port()}",
        "REDIS_URL": redis_url,
        "REDIS_PREFIX": prefix,
        "SHUTDOWN_DELAY": "1",
    }
    variables = {f"MEMETWIN_{name}": value for name, value in settings.items()}
    words = [sys.executable, "-m", "services.gateway"]
    process = processes.start(words, environment=os.environ | variables, folder=ROOT)
    to_gateway = channel(f"127.0.0.1:{port}")
    try:
        wait_until(lambda: health(to_gateway, "liveness") == SERVING)
        yield process, to_gateway
    finally:
        to_gateway.close()
        processes.kill(process)


@pytest.fixture
def gateway(redis_url: str, prefix: str) -> Iterator[tuple[subprocess.Popen[bytes], grpc.Channel]]:
    with running(redis_url, prefix) as both:
        yield both


@pytest.fixture
def chatting_gateway(
    redis_url: str, prefix: str, language_model_server: LanguageModelServer
) -> Iterator[subprocess.Popen[bytes]]:
    """A gateway that has a language model server."""
    with running(
        redis_url,
        prefix,
        LLM_BASE_URL=language_model_server.url,
        LLM_MODEL="m",
        HTTP_KEEPALIVE_SECONDS="0.1",
    ) as (process, _):
        yield process


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


def chat(client: httpx.Client, question: str) -> Any:
    """Return the context of a streamed chat that bypasses the cache."""
    body = {"messages": [{"role": "user", "content": question}], "stream": True}
    bypass = {"Cache-Control": "no-cache, no-store"}
    return client.stream("POST", "/v1/chat/completions", json=body, headers=bypass)


def http_client() -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{HTTP_PORT}", timeout=60, trust_env=False)


def test_a_silent_upstream_gets_comments_and_a_stream_ends_within_the_grace(
    chatting_gateway: subprocess.Popen[bytes], language_model_server: LanguageModelServer
) -> None:
    process = chatting_gateway
    language_model_server.hold("Hi?")
    with http_client() as client, http_client() as other:
        wait_until(lambda: other.get("/healthz").status_code == 200)
        with chat(client, "Hi?") as response:
            assert response.status_code == 200
            lines = response.iter_lines()
            assert ": keep-alive" in lines  # the upstream is silent in the middle of its answer
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: other.get("/readyz").status_code == 503)
            assert other.get("/healthz").status_code == 200
            language_model_server.release("Hi?")
            assert list(filter(None, lines))[-1] == "data: [DONE]"
    assert process.wait(60) == 0


@pytest.mark.long
def test_a_body_that_is_half_sent_does_not_outlast_the_grace(gateway: Any) -> None:
    process, _ = gateway
    with socket.create_connection(("127.0.0.1", HTTP_PORT)) as half:
        half.sendall(b"POST /v1/ask HTTP/1.1\r\nHost: gateway\r\nContent-Length: 9\r\n\r\n{")
        process.send_signal(signal.SIGTERM)
        assert process.wait(GRACE_PERIOD + 10) == 0
        assert b"200 OK" not in half.recv(1000)
