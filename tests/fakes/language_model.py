"""A language model server without a socket, behind the real client."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from services.gateway.llm.client import LanguageModelClient

USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


class FakeLanguageModel:
    """Answers every request with ``pieces``.

    Attributes:
        pieces: the texts of the chunks of an answer.
        requests: the requests that were received.
        status: the HTTP status of the answers.
        go: while this is cleared, answers stop: streams after their first chunk.
        received: set by every request.
        ended: set when an answer has ended, or was cancelled.
        choice: further fields of the choice in a whole completion.
        delta: further fields of each delta with a text.
        headers: headers of the answers.
        breaks_off: ends streams before their end.
    """

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces or ("An ", "answer.")
        self.requests: list[dict[str, Any]] = []
        self.status = 200
        self.choice: dict[str, Any] = {}
        self.delta: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        self.breaks_off = False
        self.go, self.received, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.go.set()
        transport = httpx.MockTransport(self._answer)
        self.client = LanguageModelClient("http://model/v1", "m", "", transport=transport)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.requests.append(body)
        self.received.set()
        if self.status != httpx.codes.OK:
            return httpx.Response(self.status, json={"error": {"message": "No.", "code": "no"}})
        if body.get("stream"):
            return httpx.Response(200, headers=self.headers, stream=_Stream(self))
        try:
            await self.go.wait()
        finally:
            self.ended.set()
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"} | self.choice
        reply = {"id": "1", "choices": [choice], "usage": USAGE}
        return httpx.Response(200, headers=self.headers, json=reply)


class _Stream(httpx.AsyncByteStream):
    def __init__(self, model: FakeLanguageModel) -> None:
        self._model = model

    async def aclose(self) -> None:
        self._model.ended.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._model.pieces:
            yield _event({"content": piece, **self._model.delta})
            await self._model.go.wait()
        if self._model.breaks_off:
            return
        yield _event({}, "stop")
        yield f"data: {json.dumps({'id': '1', 'choices': [], 'usage': USAGE})}\n\n".encode()
        yield b"data: [DONE]\n\n"


def _event(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return f"data: {json.dumps({'id': '1', 'choices': [choice]})}\n\n".encode()
