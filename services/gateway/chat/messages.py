"""Converts between ChatService's protobuf messages and plain data."""

import dataclasses
import json

from memetwin.gateway.v1 import cache_pb2, chat_pb2
from services.errors import InvalidArgument
from services.gateway.cache.messages import (
    bound_from_message,
    check_count,
    decision_to_message,
    scope_from_message,
)
from services.gateway.cache.types import Decision
from services.gateway.chat import completions
from services.gateway.chat.types import CacheControls
from services.gateway.json_reader import read_object
from services.gateway.llm.types import (
    Json,
    completion_text,
    delta_text,
    finish_reason,
    token_usage,
)


def read_chat(message: chat_pb2.Chat) -> tuple[Json, CacheControls]:
    """Return a chat as a request of OpenAI's API, and how its caller wants the cache to be used.

    Raises:
        InvalidArgument: ``further`` is not a JSON object, or a bound is out of range.
    """
    try:
        body = read_object(message.further.encode() or b"{}", name="further")
    except ValueError as error:
        raise InvalidArgument("BAD_JSON", str(error), field="further") from error
    check_count(message.messages, "messages")
    if message.messages:
        body["messages"] = [
            {"role": each.role, "content": each.content} for each in message.messages
        ]
    if message.model:
        body["model"] = message.model
    for name in ("temperature", "max_tokens"):
        if message.HasField(name):
            body[name] = getattr(message, name)
    cache = message.cache
    limits = bound_from_message(cache)
    if cache.HasField("max_age"):
        limits = dataclasses.replace(limits, max_age=cache.max_age)
    return body, CacheControls(
        scope_from_message(message.scope), limits, cache.no_cache, cache.no_store
    )


def write_completion(completion: Json, made: Decision) -> chat_pb2.CompleteResponse:
    """Write a completion and the cache's decision.

    The completion is ``{}`` for a stream that is more than text.
    """
    message = cache_pb2.Message(role="assistant", content=completion_text(completion))
    return chat_pb2.CompleteResponse(
        message=message if completion else None,
        finish_reason=finish_reason(completion),
        model=str(completion.get("model") or ""),
        usage=cache_pb2.Usage(**token_usage(completion)),
        decision=decision_to_message(made),
        completion=json.dumps(completion, ensure_ascii=False) if completion else "",
    )


def write_chunk(chunk: Json) -> chat_pb2.StreamCompleteResponse:
    """Write a chunk, as its text if it has nothing else."""
    if completions.is_text_delta(chunk):
        return chat_pb2.StreamCompleteResponse(delta=delta_text(chunk))
    return chat_pb2.StreamCompleteResponse(chunk=json.dumps(chunk, ensure_ascii=False))
