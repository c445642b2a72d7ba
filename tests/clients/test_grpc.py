"""``buf curl`` calls the gateway by its reflection, and health checks can watch it."""

import json
import sys
from pathlib import Path

import grpc

from tests.clients import installs

CHAT = "memetwin.gateway.v1.ChatService/Complete"
BUF = str(Path(sys.executable).parent / "buf")


def test_buf_curl_calls_by_reflection(environment: dict[str, str]) -> None:
    request = {"chat": {"messages": [{"role": "user", "content": environment["QUESTION"]}]}}
    url = f"http://{environment['GRPC_ADDRESS']}/{CHAT}"
    words = ["curl", "--protocol", "grpc", "--http2-prior-knowledge", "--data"]
    reply = json.loads(installs.run([BUF, *words, json.dumps(request), url], environment))
    assert reply["message"]["content"] == environment["ANSWER"]


def test_a_channel_watches_the_health(environment: dict[str, str]) -> None:
    """The channel is ready only after the stream of Watch has said that the service serves."""
    config = {
        "healthCheckConfig": {"serviceName": "memetwin.gateway.v1.ChatService"},
        "loadBalancingConfig": [{"round_robin": {}}],
    }
    options = [("grpc.service_config", json.dumps(config))]
    with grpc.insecure_channel(environment["GRPC_ADDRESS"], options=options) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
