"""An OpenAI-compatible language model server for tests, on a real socket.

The first word of a question may set how it is answered: ``cut`` ends a stream early, ``length``
runs out of tokens, ``tool`` calls the tool f, ``refuse`` refuses, and ``busy`` returns status 429.
"""

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from services.gateway.app.server import listen

Json = dict[str, Any]


def quote(question: str) -> str:
    """Return the usual answer to a question."""
    return f"You asked “{question}” 🙂."


class LanguageModelServer:
    """Runs in a thread.

    Attributes:
        url: the base URL.
        answer: returns the answer to a request.
        usage: the usage to report; None reports a token for every four characters.
        finish_reason: why answers end.
        delay: seconds that an answer takes.
        calls: how often each question has been asked.
        requests: the requests that were received.
        responses: the responses that are stored, by id.
    """

    def __init__(self, answer: Callable[[Json], str]) -> None:
        self.answer = answer
        self.usage: dict[str, int] | None = None
        self.finish_reason = "stop"
        self.delay = 0.0
        self.calls: Counter[str] = Counter()
        self.requests: list[Json] = []
        self.responses: dict[str, Json] = {}
        self._held: dict[str, asyncio.Event] = {}
        app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/v1/responses", self._respond, methods=["POST"]),
                Route("/v1/responses/{id}", self._stored, methods=["GET", "DELETE"]),
                Route("/v1/responses/{id}/cancel", self._stored, methods=["POST"]),
            ]
        )
        self._socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def hold(self, question: str) -> None:
        """Stop after the first half of a stream until the question is released."""
        self._held[question] = asyncio.Event()

    def release(self, question: str) -> None:
        """Answer a held question."""
        self._loop.call_soon_threadsafe(self._held.pop(question).set)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._server.serve(sockets=[self._socket]))

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "parrot", "object": "model"}]})

    async def _respond(self, request: Request) -> Response:
        """Store a response, which repeats the request."""
        body = await request.json()
        previous = body.get("previous_response_id")
        if previous and previous not in self.responses:
            return JSONResponse({"error": {"message": "No such response."}}, 404)
        part = {"type": "output_text", "text": quote(str(body.get("input"))), "annotations": []}
        item = {"id": "msg_1", "type": "message", "role": "assistant", "content": [part]}
        name = f"resp_{len(self.responses):032x}"
        self.responses[name] = {"id": name, "object": "response", "output": [item]}
        return JSONResponse(self.responses[name])

    async def _stored(self, request: Request) -> Response:
        stored = self.responses.get(request.path_params["id"])
        if stored is None:
            return JSONResponse({"error": {"message": "No such response."}}, 404)
        return JSONResponse(stored)

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        question = question_of(body)
        self.calls[question] += 1
        self.requests.append(body)
        if _manner(question) == "busy":
            error = {"error": {"message": "Too busy.", "type": "overload", "code": "busy"}}
            return JSONResponse(error, 429, {"Retry-After": "3"})
        if body.get("stream"):
            return StreamingResponse(self._stream(question, body), media_type="text/event-stream")
        await self._wait(question)
        choice: Json = {"message": self._message(question, body), "finish_reason": "stop"}
        choice["finish_reason"] = self._reason(question)
        choices = [{**choice, "index": number} for number in range(int(min(body.get("n") or 1, 8)))]
        usage = self._usage(body)
        return JSONResponse(
            {**_head(body), "object": "chat.completion", "choices": choices, "usage": usage}
        )

    async def _stream(self, question: str, body: Json) -> AsyncIterator[str]:
        yield _chunk(body, {"role": "assistant", "content": ""})
        text = self.answer(body)
        pieces = [text[first : first + 3] for first in range(0, len(text), 3)]
        middle = len(pieces) // 2
        for piece in pieces[:middle]:
            yield _chunk(body, {"content": piece})
        await self._wait(question)
        if _manner(question) == "cut":
            return
        for piece in pieces[middle:]:
            yield _chunk(body, {"content": piece})
        if _manner(question) == "tool":
            call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
            delta = {"tool_calls": [call]}
            yield _chunk(body, delta, "tool_calls")
        else:
            yield _chunk(body, {}, self._reason(question))
        if (body.get("stream_options") or {}).get("include_usage"):
            yield _event({**_head(body), "choices": [], "usage": self._usage(body)})
        yield "data: [DONE]\n\n"

    async def _wait(self, question: str) -> None:
        if held := self._held.get(question):
            await held.wait()
        await asyncio.sleep(self.delay)

    def _message(self, question: str, body: Json) -> Json:
        choice = body.get("tool_choice")
        if isinstance(choice, dict):
            function = {**choice["function"], "arguments": self.answer(body)}
            call = {"id": "c", "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        if _manner(question) == "tool":
            call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        if _manner(question) == "refuse":
            return {"role": "assistant", "content": "", "refusal": "No."}
        return {"role": "assistant", "content": self.answer(body)}

    def _reason(self, question: str) -> str:
        return "length" if _manner(question) == "length" else self.finish_reason

    def _usage(self, body: Json) -> dict[str, int]:
        if self.usage:
            return self.usage
        size = sum(len(str(message.get("content"))) for message in body["messages"])
        usage = {"prompt_tokens": size // 4, "completion_tokens": len(self.answer(body)) // 4}
        return {**usage, "total_tokens": sum(usage.values())}


def question_of(body: Json) -> str:
    """Return the text of a request's last message; of a prompt with passages only the question."""
    content = body["messages"][-1].get("content")
    text = str(content[0].get("text", "") if content and isinstance(content, list) else content)
    return text.rpartition("from the passages above: ")[2]


@contextlib.contextmanager
def running(
    answer: Callable[[Json], str] = lambda body: quote(question_of(body)),
) -> Iterator[LanguageModelServer]:
    """Run a server, which quotes each question unless told otherwise."""
    server = LanguageModelServer(answer)
    try:
        yield server
    finally:
        server.close()


def _manner(question: str) -> str:
    return question.partition(" ")[0]


def _head(body: Json) -> Json:
    return {"id": "1", "created": 1, "model": body["model"]}


def _chunk(body: Json, delta: Json, reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return _event({**_head(body), "object": "chat.completion.chunk", "choices": [choice]})


def _event(data: Json) -> str:
    return f"data: {json.dumps(data)}\n\n"
