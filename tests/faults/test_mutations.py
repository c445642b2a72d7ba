"""Mutated bodies over HTTP and mutated messages over gRPC: canonical errors only, and no leak.

``MEMETWIN_TEST_MUTATIONS`` is the number of requests of the long test.
"""

import asyncio
import contextlib
import json
import os
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import httpx
import psutil
import pytest

from tests import language_model
from tests.attacks.contract import methods, name_of
from tests.attacks.names import Names
from tests.attacks.requests import variants
from tests.attacks.world import PICTURES
from tests.embedder_process import EmbedderProcess
from tests.mutations import HttpRequest, mutate_bytes, mutate_request, mutated_structures
from tests.service_process import ServiceProcess
from tests.stack import wait_until

COUNT, SHORT_COUNT = int(os.environ.get("MEMETWIN_TEST_MUTATIONS", "100000")), 1500
SEED, WORKERS, MAX_GROWTH = 18, 16, 1.05
OURS = ("ask", "documents", "twins", "cache", "feedback", "admin")
# Long work that no mutation needs.
LEFT_OUT = {"SearchService/TuneIndex", "SearchService/MeasureRecall", "SearchService/Reindex"}
# gRPC's own codes for what the client itself did.
CODES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
JSON_SEEDS: list[tuple[bytes, Any]] = [
    (b"/v1/chat/completions", {"model": "m", "messages": MESSAGES, "temperature": 0.5, "n": 1}),
    (b"/v1/chat/completions", {"messages": MESSAGES, "stream": True, "stop": ["x"], "seed": 7}),
    (
        b"/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "tools": [TOOL],
            "tool_choice": "auto",
            "response_format": {"type": "text"},
            "max_tokens": 5,
        },
    ),
    (b"/v1/responses", {"model": "m", "input": "Who are you?", "instructions": "Be brief."}),
    (
        b"/v1/responses",
        {
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi?"}]}],
            "stream": True,
            "temperature": 0.5,
        },
    ),
    (b"/v1/embeddings", {"input": ["a cat", "a dog"], "dimensions": 8, "encoding_format": "float"}),
    (b"/v1/embeddings", {"input": "a cat", "model": "all-MiniLM-L6-v2"}),
    (
        b"/v1/ask",
        {
            "collection": "c",
            "question": "Who?",
            "limit": 3,
            "history": [{"role": "user", "content": "Hi."}],
            "filter": {"tag": {"field": "kind", "any_of": ["a"]}},
            "cache": {"no_cache": True},
        },
    ),
    (b"/v1/twins", {"text": "a tired machine", "metric": "l2", "limit": 2}),
    (b"/v1/twins?limit=2&metric=ip", {"text": "a cat"}),
    (
        b"/v1/cache/entries",
        {"scope": {"namespace": "n"}, "entries": [{"prompt": "Who?", "response": "I.", "ttl": 5}]},
    ),
    (b"/v1/feedback", {"entry_id": "curated-0", "correct": True, "prompt": "Who?"}),
]
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="collection"\r\n\r\nc\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.md"\r\n\r\n# Doors'
    b"\r\n--x--\r\n"
)
FORM_TYPE = (b"Content-Type: multipart/form-data; boundary=x",)
OTHER_SEEDS = [
    HttpRequest(b"POST", b"/v1/documents", FORM, FORM_TYPE),
    HttpRequest(b"POST", b"/v1/documents?collection=c&id=a.txt&fields=%7B%7D", b"One. Two.", ()),
    HttpRequest(b"POST", b"/v1/twins?limit=2", PICTURES[0].read_bytes()[:3000], ()),
    HttpRequest(b"GET", b"/v1/models"),
    HttpRequest(b"GET", b"/v1/models/all-MiniLM-L6-v2"),
    HttpRequest(b"GET", b"/v1/cache/stats?tenant=t"),
    HttpRequest(b"GET", b"/v1/twins/a/picture"),
]


class Services:
    """The three services, each in its own process, and a language model server."""

    def __init__(self, redis_url: str, prefix: str, model_url: str) -> None:
        settings = {"REDIS_URL": redis_url, "REDIS_PREFIX": f"{prefix}mutations-{uuid.uuid4()}:"}
        # A vector cache that is full from the start, so that its growth is no leak.
        self.embedder = EmbedderProcess(os.environ | {"MEMETWIN_EMBED_CACHE": str(2**20)})
        self.search = ServiceProcess("search", **settings)
        addresses = {
            "EMBEDDER_ADDRESS": self.embedder.address,
            "SEARCH_ADDRESS": self.search.address,
            "LLM_BASE_URL": model_url,
            "LLM_MODEL": "parrot",
        }
        self.gateway = ServiceProcess("gateway", **settings, **addresses)
        self.processes = {
            "embedder": psutil.Process(self.embedder.process.pid),
            "search": psutil.Process(self.search.pid),
            "gateway": psutil.Process(self.gateway.pid),
        }

    def address(self, service: str) -> str:
        return {
            "EmbedderService": self.embedder.address,
            "SearchService": self.search.address,
        }.get(service, self.gateway.address)

    def is_ready(self, url: str) -> bool:
        try:
            return httpx.get(url).status_code == 200
        except httpx.HTTPError:
            return False

    def memory(self) -> dict[str, int]:
        return {name: one.memory_info().rss for name, one in self.processes.items()}

    def close(self) -> None:
        self.gateway.close()
        self.search.close()
        self.embedder.stop()


@pytest.fixture(scope="module")
def services(redis_url: str, prefix: str) -> Iterator[Services]:
    with language_model.running() as model:
        one = Services(redis_url, prefix, model.url)
        try:
            url = f"http://{one.gateway.http_address}/readyz"
            wait_until(lambda: one.is_ready(url))
            yield one
        finally:
            one.close()


class Http:
    """Sends requests as bytes over one connection, which is opened again when it is closed."""

    def __init__(self, services: Services) -> None:
        self._host, _, self._port = services.gateway.http_address.partition(":")
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: HttpRequest) -> tuple[int, dict[bytes, bytes], bytes]:
        """Return the status, the headers and the body of the response."""
        is_new = self._streams is None
        reader, writer = self._streams or await asyncio.open_connection(self._host, self._port)
        self._streams = reader, writer
        try:
            writer.write(request.encode())
            status, headers, body = await self._read(reader, request)
        except (ConnectionError, asyncio.IncompleteReadError):
            await self.close()
            if is_new:
                raise
            return await self.ask(request)  # the server had closed an idle connection
        if headers.get(b"connection") == b"close" or status == 101:
            await self.close()
        return status, headers, body

    async def _read(
        self, reader: asyncio.StreamReader, request: HttpRequest
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.strip().split(b"\r\n")
        pairs = (line.partition(b":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = b"".join([part async for part in _body(reader, request.method, headers)])
        return int(first.split()[1]), headers, body

    async def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            with contextlib.suppress(ConnectionError):
                await self._streams[1].wait_closed()
        self._streams = None


async def _body(
    reader: asyncio.StreamReader, method: bytes, headers: dict[bytes, bytes]
) -> AsyncIterator[bytes]:
    if method == b"HEAD":
        return
    if b"content-length" in headers:
        yield await reader.readexactly(int(headers[b"content-length"]))
    elif headers.get(b"transfer-encoding") == b"chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    else:
        yield await reader.read()


def wrong_http(request: HttpRequest, status: int, headers: Any, body: bytes) -> str:
    """Return what is wrong with a response, or an empty text."""
    if status == 500:
        return "an internal error"
    if status < 400:
        return ""
    if request.method == b"HEAD" or (status == 405 and not body):
        return ""
    try:
        error = json.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        return "no JSON"
    path = f"{request.target.partition(b'?')[0].decode()}//".split("/")
    is_ours = path[1] != "v1" or path[2] in OURS
    ours, theirs = (
        {"code", "reason", "message", "field", "metadata"},
        {"message", "type", "param", "code"},
    )
    if set(error) not in (
        (ours, theirs) if b"%" in request.target else ((ours if is_ours else theirs),)
    ):
        # What is not HTTP has no path.
        return "" if error.get("code") == "bad_request" else "another shape"
    return ""


def http_requests(rng: random.Random, count: int) -> Iterator[HttpRequest]:
    """Yield mutated requests: a part of them from hypothesis, the others with mutated bytes."""
    seeds = [HttpRequest(b"POST", path, json.dumps(body).encode()) for path, body in JSON_SEEDS]
    structures = mutated_structures([body for _, body in JSON_SEEDS], max(1, count // 10))
    for line in structures:
        found = json.loads(line)
        body = json.dumps(found["body"]).encode()
        seeds.append(HttpRequest(b"POST", JSON_SEEDS[found["number"]][0], body))
    yield from seeds[len(JSON_SEEDS) :]
    bodies = [one.body for one in seeds[: len(JSON_SEEDS)]] + [one.body for one in OTHER_SEEDS]
    choices = [*seeds[: len(JSON_SEEDS)], *OTHER_SEEDS]
    for number in range(count - len(structures)):
        seed = rng.choice(seeds) if number % 4 == 0 else rng.choice(choices)
        yield mutate_request(rng, seed, bodies)


async def send_http(services: Services, requests: Iterator[HttpRequest]) -> list[str]:
    """Send requests over several connections. Return what was wrong."""
    found: list[str] = []

    async def work() -> None:
        connection = Http(services)
        for request in requests:
            try:
                async with asyncio.timeout(120):
                    answer = await connection.ask(request)
            except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
                found.append(f"{error!r}: {request}"[:1000])
                await connection.close()
                continue
            if wrong := wrong_http(request, *answer):
                found.append(f"{wrong}: {request} -> {answer}"[:2000])
        await connection.close()

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    return found


def grpc_seeds() -> list[tuple[Any, list[bytes]]]:
    picture, vector = PICTURES[0].read_bytes()[:2000], bytes(4 * 384)
    names = Names("", picture=picture, callers_picture=picture, vector=vector, entry="e" * 32)
    return [
        (method, [one.SerializeToString() for one in messages])
        for method in methods()
        if name_of(method) not in LEFT_OUT
        for messages in variants(method, names)
    ]


async def send_grpc(services: Services, rng: random.Random, count: int) -> list[str]:
    """Send mutated messages. Return what was wrong."""
    seeds = grpc_seeds()
    others = [data for _, messages in seeds for data in messages]
    numbers, found = iter(range(count)), []
    codes: Counter[str] = Counter()
    names = ("EmbedderService", "SearchService", "CacheService")
    channels = {
        services.address(one): grpc.aio.insecure_channel(services.address(one)) for one in names
    }

    async def work() -> None:
        for _ in numbers:
            method, messages = rng.choice(seeds)
            sent = [mutate_bytes(rng, one, others) for one in messages]
            channel = channels[services.address(method.containing_service.name)]
            code, details = await call(channel, method, sent)
            codes[code.name] += 1
            # The client reports this if the server has ended a call before all of it was sent.
            if code not in CODES and details != "Internal error from Core":
                found.append(f"{name_of(method)} {code} {details} {sent}"[:2000])

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    for one in channels.values():
        await one.close()
    assert len(codes) > 2, codes
    return found


async def call(channel: Any, method: Any, messages: list[bytes]) -> tuple[grpc.StatusCode, str]:
    """Make a call with bytes as its messages. Return the status, and the details of an error."""
    kind = "stream" if method.client_streaming else "unary"
    kind += "_stream" if method.server_streaming else "_unary"
    path = f"/{method.containing_service.full_name}/{method.name}"
    stub = getattr(channel, kind)(path)
    argument = iter(messages) if method.client_streaming else messages[0]
    try:
        reply = stub(argument, timeout=60)
        if method.server_streaming:
            async for _ in reply:
                pass
        else:
            await reply
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


async def send(services: Services, seed: int, count: int) -> list[str]:
    """Send mutated requests, half of them over HTTP and half over gRPC. Return what was wrong."""
    rng = random.Random(seed)
    found = await send_http(services, http_requests(rng, count // 2))
    return found + await send_grpc(services, rng, count - count // 2)


async def test_mutations_get_canonical_errors(services: Services) -> None:
    found = await send(services, SEED, SHORT_COUNT)
    assert not found, report(found)
    assert all(one.is_running() for one in services.processes.values())


@pytest.mark.long
async def test_many_mutations_leave_no_memory_behind(services: Services) -> None:
    found = await send(services, SEED + 1, COUNT // 2)
    before = services.memory()
    found += await send(services, SEED + 2, COUNT - COUNT // 2)
    after = services.memory()
    assert not found, report(found)
    assert all(one.is_running() for one in services.processes.values())
    grown = {name: after[name] / before[name] for name in before}
    print("memory after the second half, as a multiple of that after the first:", grown)
    assert max(grown.values()) <= MAX_GROWTH, grown


def report(found: list[str]) -> str:
    """Return the first findings."""
    return "\n".join([f"{len(found)} findings", *found[:20]])
