"""The language model's server, spoken to as OpenAI's API has it; what it says is passed on."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import grpc
import httpx

from services import deadlines
from services.errors import FailedPrecondition, Failure, Unavailable
from services.gateway.llm.types import Json

# Headers by which an end is no accident (RFC 9112, section 6.3).
_FRAMING = frozenset({"transfer-encoding", "content-length"})


class Refused(Failure):
    """The language model's server refused; ``status`` and ``body`` are its own."""

    _CODES: ClassVar = {
        400: grpc.StatusCode.INVALID_ARGUMENT,
        413: grpc.StatusCode.INVALID_ARGUMENT,
        422: grpc.StatusCode.INVALID_ARGUMENT,
        429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    }

    def __init__(self, status: int, body: bytes, retry_after: str = "") -> None:
        told = _message(body)
        super().__init__(
            "LANGUAGE_MODEL_REFUSED",
            "The language model's server refused the call; its metadata says why.",
            retry_after=float(retry_after) if retry_after.isdigit() else None,
            status=status,
            upstream_message=told,
        )
        self.status, self.body = status, body
        broken = status >= httpx.codes.INTERNAL_SERVER_ERROR
        usual = grpc.StatusCode.UNAVAILABLE if broken else grpc.StatusCode.FAILED_PRECONDITION
        self.code = self._CODES.get(status, usual)  # type: ignore[misc]


class LanguageModelClient:
    """An OpenAI-compatible server behind HTTP; an empty address means there is none."""

    def __init__(self, base_url: str, model: str, api_key: str) -> None:
        self._model = model
        self._base = base_url.rstrip("/")
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key or 'none'}"},
            timeout=httpx.Timeout(deadlines.LONG_DEADLINE, connect=5.0),
            limits=httpx.Limits(max_connections=512, max_keepalive_connections=64),
        )

    def check(self) -> None:
        """Raise FailedPrecondition if no language model is set."""
        if not self._base:
            raise FailedPrecondition(
                "NO_LANGUAGE_MODEL", "No language model is set; set MEMETWIN_LLM_BASE_URL."
            )

    def model(self, named: str) -> str:
        """Return the model to ask: the one that is named, or our own choice."""
        return named or self._model

    async def complete(self, body: Json) -> Json:
        """Return the whole reply. Raises Refused, or Unavailable if nobody answers."""
        async with self._asking("POST", "/chat/completions", body) as response:
            await response.aread()
            return _read(response.content)

    async def stream(self, body: Json) -> AsyncIterator[Json]:
        """Yield chunks as they arrive.

        Not all servers end with ``[DONE]``; then a reason to finish must have come, and HTTP itself
        must say that nothing is missing.

        Raises:
            Refused: the server refuses.
            Unavailable: nobody answers, or the stream ends before it says that it is done.
        """
        finished = False
        async with self._asking("POST", "/chat/completions", body) as response:
            framed = not _FRAMING.isdisjoint(response.headers)
            async for line in response.aiter_lines():
                name, _, value = line.partition(":")
                if name != "data":
                    continue
                if value.strip() == "[DONE]":
                    return
                chunk = _chunk(value)
                finished = finished or any(
                    choice.get("finish_reason") for choice in chunk.get("choices") or []
                )
                yield chunk
        if not (framed and finished):
            raise _cut()

    async def models(self) -> list[Json]:
        """Return the models of the server, or none if there is no server."""
        if not self._base:
            return []
        async with self._asking("GET", "/models", None) as response:
            await response.aread()
            return list(_read(response.content).get("data") or [])

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @contextlib.asynccontextmanager
    async def _asking(
        self, method: str, path: str, body: Json | None
    ) -> AsyncIterator[httpx.Response]:
        self.check()
        try:
            async with self._client.stream(method, self._base + path, json=body) as response:
                if response.is_error:
                    told = await response.aread()
                    after = response.headers.get("retry-after", "")
                    raise Refused(response.status_code, told, after)
                yield response
        except httpx.HTTPError as error:
            raise _cut() from error


def _chunk(value: str) -> Json:
    chunk = _read(value.encode())
    if "error" in chunk:
        raise Refused(502, value.encode())
    return chunk


def _read(data: bytes) -> Json:
    try:
        value: Any = json.loads(data)
    except ValueError as error:
        raise _cut() from error
    if not isinstance(value, dict):
        raise _cut()
    return value


def _cut() -> Unavailable:
    return Unavailable(
        "LANGUAGE_MODEL_UNAVAILABLE", "The language model does not answer.", retry_after=2.0
    )


def _message(body: bytes) -> str:
    try:
        value = json.loads(body)
        return str(value["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
