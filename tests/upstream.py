"""An OpenAI-compatible server on a socket of its own; the question says how it is to behave.

``cut`` ends a stream early, ``length`` runs out of tokens, ``tool`` calls one, ``refuse`` refuses,
``busy`` says 429, ``slow`` takes two seconds and ``crawl`` five. It counts each question's calls.
"""

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from services.gateway.app.server import listen

WORDS = ["You ", "asked ", "“", "", "” ", "🙂."]
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class Upstream:
    """Runs in a thread; ``url`` is its base URL and ``calls`` how often each question came."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/models", self._models),
            ]
        )
        self._socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "parrot", "object": "model"}]})

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        content = body["messages"][-1]["content"]
        asked = content if isinstance(content, str) else content[0].get("text", "")
        self.calls[asked] += 1
        self.bodies.append(body)
        if "busy" in asked:
            error = {"error": {"message": "Too busy.", "type": "overload", "code": "busy"}}
            return JSONResponse(error, 429, {"Retry-After": "3"})
        if not body.get("stream"):
            await asyncio.sleep(_seconds(asked))
        if body.get("stream"):
            return StreamingResponse(self._stream(asked, body), media_type="text/event-stream")
        choice: dict[str, Any] = {"index": 0, "message": _message(asked), "finish_reason": "stop"}
        if "length" in asked:
            choice["finish_reason"] = "length"
        choices = [{**choice, "index": number} for number in range(body.get("n") or 1)]
        reply = {"object": "chat.completion", "choices": choices, "usage": USAGE}
        return JSONResponse({"id": "1", "created": 1, "model": body["model"], **reply})

    async def _stream(self, asked: str, body: dict[str, Any]) -> AsyncIterator[str]:
        head = {"id": "1", "created": 1, "model": body["model"], "object": "chat.completion.chunk"}

        def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"

        yield chunk({"role": "assistant", "content": ""})
        for place, word in enumerate(WORDS):
            if place == 3:
                await asyncio.sleep(_seconds(asked))
                if "cut" in asked:
                    return
            yield chunk({"content": word or asked})
        if "tool" in asked:
            yield chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, "tool_calls")
        else:
            yield chunk({}, "length" if "length" in asked else "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            yield f"data: {json.dumps({**head, 'choices': [], 'usage': USAGE})}\n\n"
        yield "data: [DONE]\n\n"


def _seconds(asked: str) -> float:
    return 5 if "crawl" in asked else 2 if "slow" in asked else 0


def _message(asked: str) -> dict[str, Any]:
    if "tool" in asked:
        calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    if "refuse" in asked:
        return {"role": "assistant", "content": "", "refusal": "No."}
    return {"role": "assistant", "content": said(asked)}


def said(asked: str) -> str:
    """What it answers to a question."""
    return "".join(word or asked for word in WORDS)


@contextlib.contextmanager
def running() -> Iterator[Upstream]:
    upstream = Upstream()
    try:
        yield upstream
    finally:
        upstream.close()
