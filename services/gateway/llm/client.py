"""Client of an OpenAI-compatible language model server."""

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable

import httpx
import orjson

from services import deadlines
from services.errors import FailedPrecondition
from services.gateway.llm.errors import MAX_BODY_BYTES, passed_headers, refused, unavailable
from services.gateway.llm.metering import metered
from services.gateway.llm.response_bodies import (
    as_chunk,
    chunks_of,
    read_answer,
    read_body,
    response_events,
)
from services.gateway.llm.surrogates import SurrogateJoiner, may_have_halves
from services.gateway.llm.types import Json, has_shape

CONNECT_TIMEOUT = 5.0
# With one of these headers HTTP itself detects a truncated body (RFC 9112, section 6.3).
_FRAMING = frozenset({"transfer-encoding", "content-length"})
_CHAT = "/chat/completions"
_UNKNOWN_FIELD = re.compile(
    rb"stream_options|include_usage|additional propert|not permitted|unrecogni[sz]ed"
    rb"|(extra|unknown|unexpected|unsupported) (inputs?|fields?|keys?|keywords?|param|arg|propert)",
    re.IGNORECASE,
)
OnHeaders = Callable[[dict[str, str]], None]


class LanguageModelClient:
    """Sends chat completions to an OpenAI-compatible server.

    It follows redirects and does not retry. A request may take until the deadline of the call that
    it is part of.

    Args:
        base_url: the server's address up to ``/v1``. If it is empty, there is no server.
        model: the model for a request that names none.
        api_key: the key that the server expects. An empty one is sent as ``none``.
        transport: sends the requests; None uses the network.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._model = model
        self._base_url = base_url.rstrip("/")
        self._key = api_key.encode()
        self._refuses_stream_options = False
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key or 'none'}"},
            limits=httpx.Limits(max_connections=512, max_keepalive_connections=64),
            transport=transport,
            follow_redirects=True,
        )

    def check(self) -> None:
        """Raise FailedPrecondition if no language model is configured."""
        if not self._base_url:
            raise FailedPrecondition(
                "NO_LANGUAGE_MODEL",
                "No language model is configured. Set MEMETWIN_LLM_BASE_URL.",
            )

    def model(self, requested: str) -> str:
        """Return the model to use: the requested one, or the configured one if that is empty."""
        return requested or self._model

    async def complete(self, body: Json, on_headers: OnHeaders | None = None) -> Json:
        """Return the completion of a request.

        Args:
            body: the request.
            on_headers: gets the headers of the response that callers get, too.

        Raises:
            FailedPrecondition: no language model is configured.
            Failure: the server refuses the request; see ``errors.refused``.
            Unavailable: the server does not answer, or its answer is truncated.
            DeadlineExceeded: the server has not answered by the deadline.
        """
        async with (
            metered(body) as meter,
            self.request("POST", _CHAT, body) as response,
        ):
            _report(response, on_headers)
            answer = self._checked(*await read_answer(response))
            meter.add(answer)
            return answer

    async def stream(self, body: Json, on_headers: OnHeaders | None = None) -> AsyncIterator[Json]:
        """Yield the chunks of a completion as they arrive.

        A stream is complete if it ends with ``[DONE]``. Some servers never send that; their stream
        is complete if it has a finish reason and HTTP itself detects a truncated body.

        Args:
            body: the request. A server that refuses ``stream_options`` is asked without it.
            on_headers: gets the headers of the response that callers get, too.

        Raises:
            FailedPrecondition: no language model is configured.
            Failure: the server refuses the request; see ``errors.refused``.
            Unavailable: the server does not answer, or the stream is truncated.
            DeadlineExceeded: the server has not answered by the deadline.
        """
        finished, joiner = False, SurrogateJoiner()
        async with metered(body) as meter, self._open_stream(body) as response:
            _report(response, on_headers)
            framed = not _FRAMING.isdisjoint(response.headers)
            async for data, chunk in self._chunks(response):
                if chunk is None:
                    return
                finished = finished or any(
                    choice.get("finish_reason") for choice in chunk.get("choices") or []
                )
                whole = joiner.feed(chunk, may_have_halves=may_have_halves(data))
                meter.add(whole)
                yield whole
        if not (framed and finished):
            raise unavailable()

    async def models(self) -> list[Json]:
        """Return the models that the server lists, or nothing if there is no server.

        Raises:
            Failure: the server refuses the request; see ``errors.refused``.
            Unavailable: the server does not answer.
        """
        if not self._base_url:
            return []
        async with self.request("GET", "/models", None) as response:
            models = (await read_answer(response))[1].get("data")
        return [
            model
            for model in (models if isinstance(models, list) else [])
            if isinstance(model, dict) and isinstance(model.get("id"), str)
        ]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _chunks(self, response: httpx.Response) -> AsyncIterator[tuple[bytes, Json | None]]:
        """Yield the chunks of a stream with their JSON text, and None for ``[DONE]``."""
        if response.headers.get("content-type", "").startswith("application/json"):
            data, answer = await read_answer(response)  # the server does not stream
            yield data, as_chunk(self._checked(data, answer))
            yield b"", None
        async for event in response_events(response):
            for data, chunk in chunks_of(event.data):
                if chunk is None:
                    yield b"", None
                    return
                if event.type == b"error":
                    raise refused(httpx.codes.BAD_GATEWAY, self.without_key(data))
                yield data, self._checked(data, chunk)

    def _checked(self, data: bytes, reply: Json) -> Json:
        """Return a completion or a chunk. Raises Failure if it is an error, or has another shape.

        Many servers send ``"error": null`` in each.
        """
        if reply.get("error"):
            raise refused(httpx.codes.BAD_GATEWAY, self.without_key(data))
        if not has_shape(reply):
            raise unavailable()
        return reply

    def without_key(self, data: bytes) -> bytes:
        """Return an error of the server without our key, which some servers quote."""
        return data.replace(self._key, b"***") if self._key else data

    @contextlib.asynccontextmanager
    async def _open_stream(self, body: Json) -> AsyncIterator[httpx.Response]:
        """Send a request, and again without ``stream_options`` if the server does not know them."""
        without = {name: value for name, value in body.items() if name != "stream_options"}
        async with contextlib.AsyncExitStack() as stack:
            try:
                sent = without if self._refuses_stream_options else body
                response = await stack.enter_async_context(self.request("POST", _CHAT, sent))
            except _StreamOptionsRefusedError:
                response = await stack.enter_async_context(self.request("POST", _CHAT, without))
                self._refuses_stream_options = True
            yield response

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, path: str, body: Json | None
    ) -> AsyncIterator[httpx.Response]:
        """Send a request, and give its response before its body is read.

        Raises:
            Failure: as ``complete``.
        """
        self.check()
        seconds = deadlines.time_left() or deadlines.LONG_DEADLINE
        timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT))
        url = self._base_url + path
        content = _encode(body) if body else None
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            async with self._client.stream(
                method, url, content=content, headers=headers, timeout=timeout
            ) as response:
                if response.is_error:
                    text, _ = await read_body(response, MAX_BODY_BYTES)
                    if _is_about_stream_options(response.status_code, text, body or {}):
                        raise _StreamOptionsRefusedError
                    raise refused(response.status_code, self.without_key(text), response.headers)
                if not response.is_success:
                    raise unavailable()
                yield response
        except httpx.HTTPError as error:
            if isinstance(error, httpx.TimeoutException):
                deadlines.time_left()  # raises if the deadline has passed
            raise unavailable() from error


class _StreamOptionsRefusedError(Exception):
    """The server refuses a request because of its ``stream_options``."""


def _is_about_stream_options(status: int, text: bytes, body: Json) -> bool:
    """Return whether an error response says that the server does not know ``stream_options``.

    Some servers name the field, others only say that a field is unknown.
    """
    return (
        status in (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY)
        and "stream_options" in body
        and _UNKNOWN_FIELD.search(text) is not None
    )


def _report(response: httpx.Response, on_headers: OnHeaders | None) -> None:
    if on_headers:
        on_headers(passed_headers(response.headers))


def _encode(body: Json) -> bytes:
    """Return a request body as JSON. For a large one, orjson takes a tenth of json's time."""
    try:
        return orjson.dumps(body)
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(body, ensure_ascii=False).encode()
