"""Keys and passwords stay out of logs, errors, metrics and process lists when everything fails."""

import base64
import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests import processes
from tests.conftest import ROOT
from tests.language_model import LanguageModelServer, question_of, quote
from tests.ports import reserve_port
from tests.redis_server import RedisServer
from tests.stack import wait_until

API_KEY = "api-key-9f31"
MODEL_KEY = "model-key-77ab"
REDIS_PASSWORD = "redis p@ss:word/41"
URL_PASSWORD = "redis%20p%40ss%3Aword%2F41"
SERVICE_TOKEN = "service-token-51bd-of-32-characters"
SECRET = "c0ffee" * 10 + "beef"
TEXTS = (API_KEY, MODEL_KEY, REDIS_PASSWORD, URL_PASSWORD, SERVICE_TOKEN, SECRET)
FORBIDDEN = [
    *(text.encode() for text in TEXTS),
    *(base64.b64encode(text.encode()) for text in TEXTS),
    bytes.fromhex(SECRET),
]


class QuotingServer(LanguageModelServer):
    """A language model server that quotes the key of the request in its errors."""

    async def _complete(self, request: Request) -> Response:
        question = question_of(await request.json())
        if not question.startswith("quote"):
            return await super()._complete(request)
        key = request.headers["authorization"]
        return JSONResponse({"error": {"message": f"Incorrect API key provided: {key}"}}, 401)


class Services:
    """The gateway and search as processes that log everything, on a Redis with a password."""

    def __init__(self, folder: Path, model_url: str) -> None:
        self.log = folder / "log"
        self.replies: list[bytes] = []
        self.redis = RedisServer(folder)
        with self.redis.client() as client:
            client.config_set("requirepass", REDIS_PASSWORD)
        keys = folder / "keys.json"
        digest = hashlib.sha256(API_KEY.encode()).hexdigest()
        keys.write_text(json.dumps([{"sha256": digest, "tenant": "acme"}]))
        ports = [reserve_port() for _ in range(5)]
        self.http = f"http://127.0.0.1:{ports[1]}"
        self.metrics = f"http://127.0.0.1:{ports[2]}"
        self.environment = {
            "REDIS_URL": self.redis.url.replace("redis://", f"redis://:{URL_PASSWORD}@"),
            "REDIS_PREFIX": "secrets:",
            "LOG_LEVEL": "DEBUG",
            "API_KEYS_FILE": str(keys),
            "LLM_BASE_URL": model_url,
            "LLM_MODEL": "parrot",
            "LLM_API_KEY": MODEL_KEY,
            "SECRET": SECRET,
            "SERVICE_TOKEN": SERVICE_TOKEN,
            "GATEWAY_LISTEN": f"127.0.0.1:{ports[0]}",
            "HTTP_LISTEN": f"127.0.0.1:{ports[1]}",
            "SEARCH_LISTEN": f"127.0.0.1:{ports[3]}",
            "SEARCH_ADDRESS": f"127.0.0.1:{ports[3]}",
            "EMBEDDER_ADDRESS": f"127.0.0.1:{ports[4]}",  # nobody listens
        }
        self.started: list[Any] = []
        self.start("search")
        self.start("gateway", METRICS_LISTEN=f"127.0.0.1:{ports[2]}")
        wait_until(lambda: self.send("GET", "/healthz").status_code == 200, 120)

    def start(self, service: str, **changes: str) -> Any:
        environment = self.environment | changes
        variables = {f"MEMETWIN_{name}": value for name, value in environment.items()}
        with self.log.open("ab") as log:
            process = processes.start(
                [sys.executable, "-m", f"services.{service}"],
                environment=os.environ | variables,
                folder=ROOT,
                output=log,
                errors=log,
            )
        self.started.append(process)
        return process

    def send(self, method: str, path: str, key: str = API_KEY, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"}
        try:
            reply = httpx.request(method, self.http + path, headers=headers, timeout=60, **options)
        except httpx.TransportError as error:
            raise OSError from error
        self.replies += [reply.content, str(reply.headers).encode()]
        return reply

    def chat(self, text: str) -> httpx.Response:
        body = {"model": "parrot", "messages": [{"role": "user", "content": text}]}
        return self.send("POST", "/v1/chat/completions", json=body)

    def command_lines(self) -> bytes:
        found = b""
        for process in self.started:
            if process.poll() is None:
                parent = psutil.Process(process.pid)
                for one in (parent, *parent.children(recursive=True)):
                    found += Path(f"/proc/{one.pid}/cmdline").read_bytes()
        return found

    def close(self) -> None:
        for process in self.started:
            processes.kill(process)
        self.redis.stop()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    model = QuotingServer(lambda body: quote(question_of(body)))
    one = Services(tmp_path, model.url)
    yield one
    one.close()
    model.close()


def require_no_secret(where: str, content: bytes) -> None:
    for text in FORBIDDEN:
        position = content.find(text)
        assert position < 0, f"{where}: {content[max(0, position - 200) : position + 200]!r}"


def test_no_failure_reveals_a_secret(services: Services) -> None:
    assert services.chat("hello").status_code == 200
    assert services.chat("quote the key").status_code == 502
    assert services.send("GET", "/v1/models", key=f"{API_KEY}-wrong").status_code == 401
    for path in ("/v1/ask", "/v1/twins", "/v1/embeddings", "/v1/documents", "/v1/cache/entries"):
        services.send("POST", path, content=b"not json")
    services.redis.kill()
    services.chat("hello again")
    services.send("GET", "/v1/cache/stats")
    services.redis.start()  # without its password, so that clients fail to authenticate
    services.chat("hello once more")
    services.send("GET", "/readyz")
    services.send("GET", "/metrics")
    metrics = httpx.get(f"{services.metrics}/metrics").content
    for bad in ("redis://:a/b@c", "redis+cluster://", f"redis+x://:{URL_PASSWORD}@host"):
        assert services.start("gateway", REDIS_URL=bad).wait(120) != 0
    assert services.start("gateway", SECRET=SECRET[:-1]).wait(120) != 0
    require_no_secret("command lines", services.command_lines())
    services.started[1].send_signal(signal.SIGTERM)
    assert services.started[1].wait(60) == 0
    require_no_secret("metrics", metrics)
    require_no_secret("replies", b"\n".join(services.replies))
    log = services.log.read_bytes()
    assert b"services.gateway" in log
    require_no_secret("log", log)
