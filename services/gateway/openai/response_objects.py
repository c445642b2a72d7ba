"""Writes chat completions as objects of OpenAI's Responses API.

https://platform.openai.com/docs/api-reference/responses/object
"""

import hashlib
import time
import uuid
from typing import Any

from services.gateway.llm.types import Json, finish_reason

# Our ids differ from those of the language model server, which never stores our responses.
_MARK = "memetwin_"
# Fields of a request that its response repeats, and their defaults.
_ECHOED: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "auto",
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def is_our_id(name: str) -> bool:
    """Return whether an id is one that this module makes."""
    return name.partition("_")[2].startswith(_MARK)


def answer_name(reply: Json) -> str:
    """Return what makes the ids of a response: the id of the completion, or a random text."""
    return str(reply.get("id") or uuid.uuid4())


def object_id(kind: str, name: str, index: int = 0) -> str:
    """Return the id of a part of a response. The same answer has the same ids.

    Args:
        kind: ``resp``, ``msg`` or ``fc``.
        name: the answer's name.
        index: the part's position in the output.
    """
    digest = hashlib.sha256(f"{name}/{index}".encode(errors="replace")).hexdigest()
    return f"{kind}_{_MARK}{digest[:32]}"


def head(body: Json, reply: Json, name: str) -> Json:
    """Return a response that has no output yet.

    Args:
        body: the request.
        reply: the chat completion, or the first chunk of one.
        name: the answer's name.
    """
    echoed = {
        name: default if body.get(name) is None else body[name] for name, default in _ECHOED.items()
    }
    return {
        "id": object_id("resp", name),
        "object": "response",
        "created_at": reply.get("created") or int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": str(reply.get("model") or body.get("model") or ""),
        "output": [],
        "previous_response_id": None,
        "store": False,
        **echoed,
        "usage": None,
    }


def finished(response: Json, output: list[Json], reason: str, usage: Any) -> Json:
    """Return a response with its output.

    Args:
        response: the response without output.
        output: the items.
        reason: why the chat completion ended.
        usage: the usage of the chat completion.
    """
    cause = _INCOMPLETE.get(reason)
    return {
        **response,
        "status": "incomplete" if cause else "completed",
        "incomplete_details": {"reason": cause} if cause else None,
        "output": output,
        "usage": _usage(usage) if isinstance(usage, dict) else None,
    }


def response_object(body: Json, completion: Json) -> Json:
    """Return the response to a request as a chat completion answers it."""
    name = answer_name(completion)
    choice: Json = (completion.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    parts = [text_part(message["content"])] if message.get("content") else []
    if message.get("refusal"):
        parts.append(refusal_part(message["refusal"]))
    output = [message_item(object_id("msg", name), parts)] if parts else []
    for call in message.get("tool_calls") or []:
        output.append(call_item(object_id("fc", name, len(output)), call))
    response = head(body, completion, name)
    return finished(response, output, finish_reason(completion), completion.get("usage"))


def text_part(text: str) -> Json:
    """Return a text as a part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> Json:
    """Return a refusal as a part of a message."""
    return {"type": "refusal", "refusal": text}


def message_item(name: str, parts: list[Json], status: str = "completed") -> Json:
    """Return a message of the assistant."""
    return {
        "id": name,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": parts,
    }


def call_item(name: str, call: Json, status: str = "completed") -> Json:
    """Return the call of a function, from a tool call of a chat completion."""
    function = call.get("function") or {}
    return {
        "id": name,
        "type": "function_call",
        "status": status,
        "call_id": str(call.get("id") or name),
        "name": str(function.get("name") or ""),
        "arguments": str(function.get("arguments") or ""),
    }


def _usage(usage: Json) -> Json:
    """Return a usage with the names of the Responses API."""
    prompt, completion = (
        usage.get(f"{name}_tokens_details") or {} for name in ("prompt", "completion")
    )
    given, written = (usage.get(f"{name}_tokens") or 0 for name in ("prompt", "completion"))
    return {
        "input_tokens": given,
        "input_tokens_details": {
            "cached_tokens": prompt.get("cached_tokens") or 0,
            "cache_write_tokens": prompt.get("cache_write_tokens") or 0,
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": completion.get("reasoning_tokens") or 0},
        "total_tokens": usage.get("total_tokens") or given + written,
    }
