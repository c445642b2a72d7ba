"""A language model server for tests: OpenAI's chat completions over a real socket."""

import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.ports import reserve_port
from tests.stack import wait_until

Say = Callable[[dict[str, Any]], str]


class LanguageModelWriter:
    """Says what ``say`` makes of a request; keeps the requests."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.finish_reason = "stop"
        self.requests: list[dict[str, Any]] = []
        self._port = reserve_port()
        self.url = f"http://127.0.0.1:{self._port}/v1"

    async def complete(self, request: Request) -> Response:
        asked = await request.json()
        self.requests.append(asked)
        said = self.say(asked)
        size = sum(len(message["content"]) for message in asked["messages"])
        usage = {"prompt_tokens": size // 4, "completion_tokens": len(said) // 4}
        usage["total_tokens"] = sum(usage.values())
        head = {"id": "1", "created": 1, "model": "test-model"}
        if asked.get("stream"):
            return StreamingResponse(
                self._chunks(head, said, usage), media_type="text/event-stream"
            )
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        whole = {"object": "chat.completion", "choices": [choice], "usage": usage}
        return JSONResponse(head | whole)

    async def _chunks(self, head: Any, said: str, usage: Any) -> AsyncIterator[str]:
        def chunk(**more: Any) -> str:
            return "data: " + json.dumps(head | {"object": "chat.completion.chunk"} | more) + "\n\n"

        for first in range(0, len(said), 3):
            delta = {"content": said[first : first + 3]}
            yield chunk(choices=[{"index": 0, "delta": delta, "finish_reason": None}])
        yield chunk(choices=[{"index": 0, "delta": {}, "finish_reason": self.finish_reason}])
        yield chunk(choices=[], usage=usage)
        yield "data: [DONE]\n\n"

    @contextlib.contextmanager
    def running(self) -> Iterator["LanguageModelWriter"]:
        app = Starlette(routes=[Route("/v1/chat/completions", self.complete, methods=["POST"])])
        config = uvicorn.Config(app, port=self._port, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        wait_until(lambda: server.started)
        yield self
        server.should_exit = True
        thread.join(10)
