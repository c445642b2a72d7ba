"""A language model server with OpenAI's Responses API, behind the real client."""

import json
from typing import Any

import httpx

from services.gateway.llm.client import LanguageModelClient

USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


class ResponseServer:
    """Answers every request with ``response`` or ``events``, and records the requests."""

    def __init__(self) -> None:
        self.response: dict[str, Any] = {"id": "resp_1", "object": "response", "usage": USAGE}
        self.events: list[dict[str, Any]] = [
            {"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1"}},
            {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Hi."},
            {"type": "response.completed", "sequence_number": 2, "response": self.response},
        ]
        self.requests: list[tuple[str, str, Any]] = []
        self.status = 200
        transport = httpx.MockTransport(self._answer)
        self.client = LanguageModelClient("http://model/v1", "m", "", transport=transport)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        self.requests.append((request.method, request.url.raw_path.decode(), body))
        if self.status != httpx.codes.OK:
            return httpx.Response(self.status, json={"error": {"message": "No."}})
        if body and body.get("stream"):
            texts = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in self.events]
            return httpx.Response(200, content="".join(texts).encode())
        return httpx.Response(200, json=self.response)
