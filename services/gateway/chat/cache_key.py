"""Decides which chat requests may be cached, and builds their cache keys."""

from itertools import takewhile
from typing import Any

from services.gateway.cache.types import MAX_PROMPT_BYTES, Context, Request
from services.gateway.chat.parameters import check_parameters
from services.gateway.chat.types import CacheControls, ChatRequest
from services.gateway.digests import canonical
from services.gateway.llm.types import Json

# Fields that only change how an answer is delivered or counted, and fields that other parts of the
# context hold.
_NOT_PARAMETERS = frozenset(
    """messages model stream stream_options user metadata store service_tier safety_identifier
    prompt_cache_key prompt_cache_retention prompt_cache_options
    n tools functions response_format""".split()
)
# Requests with these fields bypass the cache, since their answers are more than one text.
_BYPASS_FIELDS = ("logprobs", "top_logprobs", "audio")
# The fields that declare tools, and those that choose one of them.
_TOOLS, _CHOICES = ("tools", "functions"), ("tool_choice", "function_call")
# Tools that the caller runs. The server runs all others, so their answers depend on more.
_CALLERS_TOOLS = ("function", "custom")
_SYSTEM_ROLES = ("system", "developer")
_TEXT_ROLES = (*_SYSTEM_ROLES, "user", "assistant")
# Entries of another version are never served, since their keys may leave out a part of the request.
_KEY_VERSION = 2
# The default of OpenAI's API.
_DEFAULT_TEMPERATURE = 1.0


def read_request(body: Json, controls: CacheControls, *, max_temperature: float) -> ChatRequest:
    """Read a request of OpenAI's API, and decide whether it may be cached.

    Args:
        body: the request.
        controls: how the caller wants the cache to be used.
        max_temperature: requests with a higher sampling temperature bypass the cache.

    Raises:
        InvalidArgument: the request has no messages, or a parameter of the wrong type.
    """
    check_parameters(body)
    messages: list[Json] = body["messages"]
    reason = _bypass_reason(body, messages, controls, max_temperature)
    if reason:
        return ChatRequest(body, None, controls, reason)
    prompt = _text(messages[-1]["content"])
    context = _context(body, messages)
    curated_for = str(body.get("model")) if _takes_plain_text(body, context) else None
    request = Request(controls.scope, context, prompt, curated_for)
    return ChatRequest(body, request, controls)


def _bypass_reason(
    body: Json, messages: list[Json], controls: CacheControls, max_temperature: float
) -> str:
    """Return why a request must bypass the cache, or an empty string."""
    prompt = _text(messages[-1].get("content"))
    reasons = {
        "cache_control": controls.no_cache and controls.no_store,
        "more_than_one_text": _has_bypass_field(body),
        "tool_choice": not _may_answer_with_text(body),
        "hosted_tools": not _are_callers_tools(body),
        "temperature": not _is_cool(body, max_temperature),
        "not_from_user": messages[-1].get("role") != "user",
        "not_text": not _is_text_only(messages),
        "empty_prompt": not prompt.strip(),
        "prompt_too_long": len(prompt.encode()) > MAX_PROMPT_BYTES,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _context(body: Json, messages: list[Json]) -> Context:
    """Return everything that the answer depends on except the last message."""
    parameters = {
        name: canonical(value).decode()
        for name, value in body.items()
        if name not in _NOT_PARAMETERS and value is not None
    }
    tools = _tools(body)
    if not tools or body.get("tool_choice") == "auto":  # both are the defaults
        parameters.pop("tool_choice", None)
    if not tools or body.get("function_call") == "auto":
        parameters.pop("function_call", None)
    if not tools:
        parameters.pop("parallel_tool_calls", None)
    if extras := _extras(messages[-1]):
        parameters["messages"] = extras  # not a field name of the body
    # The system messages before the conversation. Later ones keep their place in the history.
    system = list(takewhile(_is_system, messages))
    return Context(
        model=f"chat/{_KEY_VERSION}:{body.get('model')}",
        parameters=parameters,
        system_prompt=canonical(_transcript(system)).decode(),
        tools=tools,
        response_format=canonical(body.get("response_format")).decode(),
        history=_transcript(messages[len(system) : -1]),
    )


def _takes_plain_text(body: Json, context: Context) -> bool:
    """Return whether a text that was written in advance may answer the request.

    Its author did not know the conversation, called no tool, and did not write JSON.
    """
    return not (context.history or context.tools) and body.get("response_format") in (
        None,
        {"type": "text"},
    )


def _has_bypass_field(body: Json) -> bool:
    return any(body.get(name) for name in _BYPASS_FIELDS) or body.get("n") not in (None, 1)


def _may_answer_with_text(body: Json) -> bool:
    """Return whether no choice makes the model call a tool."""
    return all(body.get(name) in (None, "auto", "none") for name in _CHOICES)


def _are_callers_tools(body: Json) -> bool:
    """Return whether the caller runs all tools that a request declares."""
    tools, functions = (body.get(name) or [] for name in _TOOLS)
    return (
        isinstance(tools, list)
        and isinstance(functions, list)
        and all(_is_object(tool) and tool.get("type") in _CALLERS_TOOLS for tool in tools)
    )


def _tools(body: Json) -> list[str]:
    """Return the tools that a request declares. Their order makes no difference."""
    declared = [(name, tool) for name in _TOOLS for tool in body.get(name) or []]
    return sorted(canonical([name, tool]).decode() for name, tool in declared)


def _is_cool(body: Json, max_temperature: float) -> bool:
    temperature = body.get("temperature")
    if temperature is None:
        temperature = _DEFAULT_TEMPERATURE
    return isinstance(temperature, int | float) and temperature <= max_temperature


def _is_text_only(messages: list[Json]) -> bool:
    """Return whether all messages are text."""
    return all(
        message.get("role") in _TEXT_ROLES
        and _text(message.get("content"))
        and not message.get("tool_calls")
        for message in messages
    )


def _text(content: Any) -> str:
    """Return the text of a message's content, or an empty string if it has other parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(map(_is_object, content)):
        return ""
    if any(part.get("type") != "text" for part in content):
        return ""
    return "\n".join(str(part.get("text", "")) for part in content)


def _transcript(messages: list[Json]) -> list[tuple[str, str]]:
    return [(_speaker(message), _text(message["content"])) for message in messages]


def _speaker(message: Json) -> str:
    """Return the role of a message, with its fields besides the content."""
    extras = _extras(message)
    return f"{message['role']}:{extras}" if extras else str(message["role"])


def _extras(message: Json) -> str:
    """Return the fields of a message besides its role and content, for example its name."""
    extras = {
        name: value for name, value in message.items() if value and name not in ("role", "content")
    }
    return canonical(extras).decode() if extras else ""


def _is_system(message: Json) -> bool:
    return message["role"] in _SYSTEM_ROLES


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)
