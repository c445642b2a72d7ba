"""The gateway's HTTP face: the page, and the same stories as JSON. Photos stay in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import uvicorn
from google.protobuf import json_format
from google.protobuf.message import Message
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from memetwin.gateway.v1 import rag_pb2, twin_pb2
from services import deadlines
from services.errors import Failure, InvalidArgument
from services.gateway.auth import Keys
from services.gateway.backends.types import METRICS
from services.gateway.cache import messages
from services.gateway.http import bodies
from services.gateway.http.bodies import PAGES
from services.gateway.openai.api import STATUS, cache_control, cache_headers, error_body
from services.gateway.rag import event_stream
from services.gateway.rag import messages as rag_messages
from services.gateway.rag.service import Answer, Answers
from services.gateway.twins.service import Twins

_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:;"
        " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Handler = Callable[[Request], Awaitable[Response]]


def app(
    twins: Twins,
    answers: Answers,
    others: Sequence[Route],
    ready: Callable[[], Awaitable[bool]],
    keys: Keys,
) -> Starlette:
    """Return the ASGI application; ``others`` are the routes of other faces."""
    face = _Face(twins, answers, ready)
    return Starlette(
        routes=[
            Route("/", face.page),
            Mount("/pages", StaticFiles(directory=PAGES)),
            Route("/v1/twins", face.find_twin, methods=["POST"]),
            Route("/v1/twins/{id:path}/picture", face.picture),
            Route("/v1/ask", face.ask, methods=["POST"]),
            *others,
            Route("/healthz", face.alive),
            Route("/readyz", face.is_ready),
            Route("/metrics", face.metrics),
        ],
        middleware=[Middleware(_Headers), Middleware(_Doorkeeper, keys)],
        exception_handlers={Failure: _failed, TimeoutError: _late},
    )


class _Face:
    def __init__(
        self, twins: Twins, answers: Answers, ready: Callable[[], Awaitable[bool]]
    ) -> None:
        self._twins = twins
        self._answers = answers
        self._ready = ready

    async def page(self, request: Request) -> Response:
        return FileResponse(PAGES / "index.html")

    async def find_twin(self, request: Request) -> Response:
        """Find the twin of a photo (the body, or a form's ``image``) or of ``{"text": …}``."""
        with _deadline(deadlines.DEFAULT_DEADLINE) as limit:
            async with asyncio.timeout(limit):
                options = dict(request.query_params)
                if bodies.content_type(request) == "application/json":
                    options |= await bodies.json_object(request)
                    photo = b""
                else:
                    photo, form = await bodies.photo(request)
                    options |= form
                metric, limit_ = _metric(options), _limit(options)
                if photo or "text" not in options:
                    found = await self._twins.find(photo, metric, limit_)
                else:
                    found = await self._twins.find_by_text(str(options["text"]), metric, limit_)
        reply = twin_pb2.FindTwinResponse(
            twins=map(messages.twin, found.twins),
            model=found.model,
            model_digest=found.model_digest,
            timings=twin_pb2.TwinTimings(
                embed=found.embed, search=found.search, total=found.embed + found.search
            ),
        )
        return JSONResponse(_plain(reply))

    async def picture(self, request: Request) -> Response:
        image, media_type = await self._twins.picture(request.path_params["id"])
        return Response(image, media_type=media_type, headers={"Cache-Control": "max-age=60"})

    async def ask(self, request: Request) -> Response:
        """Answer the AskRequest that the body is: as JSON, or as events if those are accepted."""
        message = rag_pb2.AskRequest()
        try:
            json_format.ParseDict(await bodies.json_object(request), message)
        except json_format.ParseError as error:
            raise InvalidArgument(
                "BAD_JSON", "The body is no AskRequest as JSON: a field is wrong."
            ) from error
        _read_cache_control(request.headers.get("cache-control", ""), message)
        if event_stream.MEDIA_TYPE in request.headers.get("accept", ""):
            return await event_stream.response(self._answers, rag_messages.question(message))
        with _deadline(deadlines.LONG_DEADLINE) as limit:
            async with asyncio.timeout(limit):
                answer = await self._answers.ask(rag_messages.question(message))
        return JSONResponse(
            _plain(rag_messages.answer(answer)), headers=_cache_headers(answer, message)
        )

    async def alive(self, request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def is_ready(self, request: Request) -> Response:
        with contextlib.suppress(Exception):
            if await asyncio.wait_for(self._ready(), 2.0):
                return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready"}, status_code=503)

    async def metrics(self, request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _cache_headers(answer: Answer, message: rag_pb2.AskRequest) -> dict[str, str]:
    if message.cache.no_cache and message.cache.no_store:
        return {"X-Memetwin-Cache": "bypass"}
    return cache_headers(answer.decision)


def _read_cache_control(header: str, message: rag_pb2.AskRequest) -> None:
    """Apply the request's Cache-Control header."""
    no_cache, no_store, age = cache_control(header)
    message.cache.no_cache |= no_cache
    message.cache.no_store |= no_store
    if age is not None:
        message.cache.max_age = age


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[float]:
    with deadlines.within(seconds):
        yield seconds


def _metric(options: dict[str, Any]) -> str:
    name = str(options.get("metric", "cosine")).lower().removeprefix("metric_")
    if name not in METRICS:
        raise InvalidArgument(
            "UNKNOWN_METRIC", "metric is cosine, ip or l2.", field="metric", metric=name
        )
    return name


def _limit(options: dict[str, Any]) -> int:
    text = str(options.get("limit", "0"))
    if not text.isdigit():
        raise InvalidArgument("BAD_LIMIT", "limit is a number.", field="limit")
    return int(text)


def _plain(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, Failure)  # noqa: S101 - registered for nothing else
    return _refusal(error)


def _refusal(error: Failure) -> Response:
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    body = {
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
        "field": error.field,
        "metadata": error.metadata,
    }
    return JSONResponse(
        {"error": body}, status_code=STATUS.get(error.code.name, 500), headers=headers
    )


async def _late(request: Request, error: Exception) -> Response:
    return JSONResponse(
        {"error": {"code": "DEADLINE_EXCEEDED", "reason": "DEADLINE_EXCEEDED"}}, status_code=504
    )


class _Doorkeeper:
    """Lets callers in by their API keys, to what has ``/v1/`` in its path."""

    def __init__(self, inner: ASGIApp, keys: Keys) -> None:
        self._inner, self._keys = inner, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply: Any = self._inner
        part = scope["path"].removeprefix("/v1/").partition("/")[0]
        if scope["path"].startswith("/v1/"):
            key = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            try:
                self._keys.admit(_RIGHTS.get(part, "chat"), key)
            except Failure as failure:
                status = STATUS[failure.code.name]
                reply = JSONResponse(error_body(failure, status), status)
                if part in _RIGHTS:
                    reply = _refusal(failure)
        await reply(scope, receive, send)


_RIGHTS = {"twins": "twin", "ask": "rag", "documents": "rag", "cache": "cache"}


class _Headers:
    """Adds the security headers to every response."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [
                    (name.lower().encode(), value.encode()) for name, value in _SECURITY.items()
                ]
            await send(message)

        await self._inner(scope, receive, add)


class _Quiet(uvicorn.Server):
    """Leaves the signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve(application: Starlette, host: str, port: int) -> AsyncIterator[int]:
    """Serve HTTP until the block ends; yields the port. Raises OSError if it is taken."""
    config = uvicorn.Config(application, log_config=None, access_log=False, lifespan="off")
    server = _Quiet(config)
    sockets = await asyncio.get_running_loop().run_in_executor(None, _listen, host, port)
    task = asyncio.create_task(server.serve(sockets=[sockets]))
    try:
        yield sockets.getsockname()[1]
    finally:
        server.should_exit = True
        await task


def _listen(host: str, port: int) -> Any:
    import socket  # noqa: PLC0415

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), port), family=family)
