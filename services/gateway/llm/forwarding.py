"""Forwards requests of OpenAI's Responses API to the language model server unchanged."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import httpx

from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.errors import refused, unavailable
from services.gateway.llm.metering import metered
from services.gateway.llm.response_bodies import chunks_of, read_answer, response_events
from services.gateway.llm.surrogates import may_have_halves, without_halves
from services.gateway.llm.types import Json

_PATH = "/responses"
_LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed", "error")


class ResponseForwarder:
    """Forwards what chat completions cannot express. Nothing of it is cached.

    The methods raise the same failures as ``LanguageModelClient.complete``.
    """

    def __init__(self, language_model: LanguageModelClient) -> None:
        self._language_model = language_model

    async def create(self, body: Json) -> Json:
        """Return the server's response to a request."""
        async with metered(body) as meter, self._send("POST", _PATH, self._named(body)) as reply:
            _, response = await read_answer(reply)
            meter.add(_countable(response))
            return response

    async def stream(self, body: Json) -> AsyncIterator[Json]:
        """Yield the events of the server's response to a request."""
        async with metered(body) as meter, self._send("POST", _PATH, self._named(body)) as reply:
            async for sent in response_events(reply):
                for data, event in chunks_of(sent.data):
                    if event is None:
                        return
                    if "type" not in event and event.get("error"):
                        without_key = self._language_model.without_key(data)
                        raise refused(httpx.codes.BAD_GATEWAY, without_key)
                    meter.add(_countable(event))
                    yield without_halves(event) if may_have_halves(data) else event
                    if event.get("type") in _LAST_EVENTS:
                        return
        raise unavailable()

    async def call(self, method: str, path: str, query: str) -> Json:
        """Return the server's reply to a request about a stored response.

        Args:
            method: the HTTP method.
            path: the id of the response, and what follows it.
            query: the query of the URL.
        """
        url = f"{_PATH}/{path}?{query}" if query else f"{_PATH}/{path}"
        async with self._send(method, url, None) as reply:
            return (await read_answer(reply))[1]

    def _named(self, body: Json) -> Json:
        """Return a request with the default model if it names none."""
        model = self._language_model.model(str(body.get("model") or ""))
        return {**body, "model": model} if model else body

    def _send(
        self, method: str, path: str, body: Json | None
    ) -> AbstractAsyncContextManager[httpx.Response]:
        return self._language_model.request(method, path, body)


def _countable(reply: Json) -> Json:
    """Return the usage and the text of a response or an event, named as in chat completions."""
    inner = reply.get("response")
    response = inner if isinstance(inner, dict) else reply
    usage = response.get("usage")
    if isinstance(usage, dict):
        names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
        return {"usage": {name: usage.get(theirs) or 0 for name, theirs in names.items()}}
    delta = reply.get("delta")
    return {"choices": [{"delta": {"content": delta if isinstance(delta, str) else ""}}]}
