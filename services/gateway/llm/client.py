"""Client of an OpenAI-compatible language model server."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import orjson

from services import deadlines
from services.errors import FailedPrecondition
from services.gateway.json_reader import read_object
from services.gateway.llm.errors import MAX_BODY_BYTES, refused, unavailable
from services.gateway.llm.metering import metered
from services.gateway.llm.types import Json

CONNECT_TIMEOUT = 5.0
# Limits of what a server sends: the bytes of a whole answer or of one event, and its JSON values.
# An answer of 8,192 tokens with 20 alternatives of each has about 700,000 values.
MAX_ANSWER_BYTES = 32 * 2**20
MAX_ANSWER_VALUES = 2_000_000
_THREAD_BYTES = 2**18
# With one of these headers HTTP itself detects a truncated body (RFC 9112, section 6.3).
_FRAMING = frozenset({"transfer-encoding", "content-length"})


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

    async def complete(self, body: Json) -> Json:
        """Return the completion of a request.

        Raises:
            FailedPrecondition: no language model is configured.
            Failure: the server refuses the request; see ``errors.refused``.
            Unavailable: the server does not answer, or its answer is truncated.
            DeadlineExceeded: the server has not answered by the deadline.
        """
        async with (
            metered(body) as meter,
            self._request("POST", "/chat/completions", body) as response,
        ):
            answer = await _answer(response)
            meter.add(answer)
            return answer

    async def stream(self, body: Json) -> AsyncIterator[Json]:
        """Yield the chunks of a completion as they arrive.

        A stream is complete if it ends with ``[DONE]``. Some servers never send that; their stream
        is complete if it has a finish reason and HTTP itself detects a truncated body.

        Raises:
            FailedPrecondition: no language model is configured.
            Failure: the server refuses the request; see ``errors.refused``.
            Unavailable: the server does not answer, or the stream is truncated.
            DeadlineExceeded: the server has not answered by the deadline.
        """
        finished = False
        async with (
            metered(body) as meter,
            self._request("POST", "/chat/completions", body) as response,
        ):
            framed = not _FRAMING.isdisjoint(response.headers)
            async for data in _event_data(response):
                if data == b"[DONE]":
                    return
                chunk = _object(data)
                if "error" in chunk:
                    raise refused(httpx.codes.BAD_GATEWAY, self._without_key(data))
                finished = finished or any(
                    choice.get("finish_reason") for choice in chunk.get("choices") or []
                )
                meter.add(chunk)
                yield chunk
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
        async with self._request("GET", "/models", None) as response:
            return list((await _answer(response)).get("data") or [])

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _without_key(self, data: bytes) -> bytes:
        """Return an error of the server without our key, which some servers quote."""
        return data.replace(self._key, b"***") if self._key else data

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, path: str, body: Json | None
    ) -> AsyncIterator[httpx.Response]:
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
                    retry_after = response.headers.get("retry-after", "")
                    text, _ = await _read(response, MAX_BODY_BYTES)
                    raise refused(response.status_code, self._without_key(text), retry_after)
                yield response
        except httpx.HTTPError as error:
            if isinstance(error, httpx.TimeoutException):
                deadlines.time_left()  # raises if the deadline has passed
            raise unavailable() from error


def _encode(body: Json) -> bytes:
    """Return a request body as JSON. For a large one, orjson takes a tenth of json's time."""
    try:
        return orjson.dumps(body)
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(body, ensure_ascii=False).encode()


async def _event_data(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the data of each server-sent event (WHATWG HTML, section 9.2.6).

    These servers send one ``data`` line per event. Lines end with LF or CRLF.
    ``httpx.Response.aiter_lines`` would also split at characters such as U+2028, which JSON strings
    may contain.
    """
    rest = bytearray()
    async for part in response.aiter_bytes():
        first, *lines = part.split(b"\n")
        rest += first
        if len(rest) > MAX_ANSWER_BYTES:
            raise unavailable()
        for line in lines:
            if rest.startswith(b"data:"):
                yield bytes(rest[5:]).strip()
            rest = bytearray(line)
    if rest.startswith(b"data:"):
        yield bytes(rest[5:]).strip()


async def _answer(response: httpx.Response) -> Json:
    """Return the JSON object of a whole answer. Raises Unavailable for anything else."""
    data, whole = await _read(response, MAX_ANSWER_BYTES)
    if not whole:
        raise unavailable()
    if len(data) > _THREAD_BYTES:
        return await asyncio.to_thread(_object, data)
    return _object(data)


async def _read(response: httpx.Response, limit: int) -> tuple[bytes, bool]:
    """Return a body up to about ``limit`` bytes, and whether it is complete."""
    data = bytearray()
    async for part in response.aiter_bytes():
        data += part
        if len(data) > limit:
            return bytes(data), False
    return bytes(data), True


def _object(data: bytes) -> Json:
    """Return the JSON object that a server sent. Raises Unavailable for anything else."""
    try:
        return read_object(data, max_values=MAX_ANSWER_VALUES)
    except ValueError as error:
        raise unavailable() from error
