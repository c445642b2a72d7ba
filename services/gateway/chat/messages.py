"""Translates between ChatService's messages and the core's plain data."""

import dataclasses
import json

from memetwin.gateway.v1 import cache_pb2, chat_pb2
from services.errors import InvalidArgument
from services.gateway.cache.messages import bound, decision, scope
from services.gateway.cache.types import Decision
from services.gateway.chat import completions
from services.gateway.chat.cache_key import Controls
from services.gateway.llm.types import Json, completion_text, delta_text, finish_reason, token_usage


def chat(message: chat_pb2.Chat) -> tuple[Json, Controls]:
    """Read a conversation as an OpenAI request, and what is wanted of the cache.

    Raises:
        InvalidArgument: ``further`` is no JSON object, or a bound is out of range.
    """
    try:
        body = json.loads(message.further or "{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise InvalidArgument("BAD_JSON", "further is no JSON object.", field="further")
    if message.messages:
        body["messages"] = [{"role": one.role, "content": one.content} for one in message.messages]
    if message.model:
        body["model"] = message.model
    for name in ("temperature", "max_tokens"):
        if message.HasField(name):
            body[name] = getattr(message, name)
    asked = message.cache
    limits = bound(asked)
    if asked.HasField("max_age"):
        limits = dataclasses.replace(limits, max_age=asked.max_age)
    return body, Controls(scope(message.scope), limits, asked.no_cache, asked.no_store)


def completion(reply: Json, made: Decision) -> chat_pb2.CompleteResponse:
    """Write a reply and what the cache did; {} stands for a reply that was not recorded."""
    return chat_pb2.CompleteResponse(
        message=cache_pb2.Message(role="assistant", content=completion_text(reply))
        if reply
        else None,
        finish_reason=finish_reason(reply),
        model=str(reply.get("model") or ""),
        usage=cache_pb2.Usage(**token_usage(reply)),
        decision=decision(made),
        completion=json.dumps(reply, ensure_ascii=False) if reply else "",
    )


def part(chunk: Json) -> chat_pb2.StreamCompleteResponse:
    """Write a chunk: as text if it is no more."""
    if completions.is_plain(chunk):
        return chat_pb2.StreamCompleteResponse(delta=delta_text(chunk))
    return chat_pb2.StreamCompleteResponse(chunk=json.dumps(chunk, ensure_ascii=False))
