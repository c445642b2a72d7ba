"""Checks the types of a chat request's parameters (OpenAI's API).

Whether a value is in range, the language model server decides.
"""

from collections.abc import Callable
from typing import Any

from services.errors import InvalidArgument
from services.gateway.llm.types import Json

_Check = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and value == int(value)


def _is_stop(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(one, str) for one in value)
    )


_NUMBER: tuple[str, _Check] = "a number", _is_number
_INTEGER: tuple[str, _Check] = "an integer", _is_integer
_BOOLEAN: tuple[str, _Check] = "true or false", lambda value: isinstance(value, bool)
_STRING: tuple[str, _Check] = "a string", lambda value: isinstance(value, str)
_LIST: tuple[str, _Check] = "a list", lambda value: isinstance(value, list)
_OBJECT: tuple[str, _Check] = "an object", lambda value: isinstance(value, dict)
_STOP: tuple[str, _Check] = "a string or a list of strings", _is_stop
# https://platform.openai.com/docs/api-reference/chat/create
_TYPES = {
    **dict.fromkeys(("model", "user", "reasoning_effort"), _STRING),
    **dict.fromkeys(("stream", "logprobs", "parallel_tool_calls", "store"), _BOOLEAN),
    **dict.fromkeys(("temperature", "top_p", "presence_penalty", "frequency_penalty"), _NUMBER),
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "n", "seed", "top_logprobs"), _INTEGER),
    **dict.fromkeys(("stream_options", "response_format", "metadata", "logit_bias"), _OBJECT),
    **dict.fromkeys(("tools", "functions", "modalities"), _LIST),
    "stop": _STOP,
}
# An assistant may have called tools and said nothing.
_ROLES_WITH_CONTENT = ("system", "developer", "user", "tool")


def check_parameters(body: Json) -> None:
    """Check the types of the parameters and of the messages. Null means the default.

    Raises:
        InvalidArgument: a value has the wrong type, or there is no message.
    """
    for name, (expected, is_valid) in _TYPES.items():
        value = body.get(name)
        if value is not None and not is_valid(value):
            raise _bad(name, expected)
    usage = (body.get("stream_options") or {}).get("include_usage")
    if usage is not None and not isinstance(usage, bool):
        raise _bad("stream_options.include_usage", "true or false")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidArgument(
            "NO_MESSAGES", "messages must be a non-empty list of objects.", field="messages"
        )
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]")


def _check_message(message: Any, place: str) -> None:
    if not isinstance(message, dict):
        raise _bad(place, "an object with role and content")
    if not isinstance(message.get("role"), str):
        raise _bad(f"{place}.role", "a string")
    content = message.get("content")
    may_lack_it = message["role"] not in _ROLES_WITH_CONTENT and content is None
    if not (may_lack_it or isinstance(content, str | list)):
        raise _bad(f"{place}.content", "a string or a list of parts")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict):
            raise _bad(f"{place}.content[{index}]", "an object with a type")
        if part.get("type") == "text" and not isinstance(part.get("text"), str):
            raise _bad(f"{place}.content[{index}].text", "a string")
    calls = message.get("tool_calls")
    if not (calls is None or isinstance(calls, list)):
        raise _bad(f"{place}.tool_calls", "a list")


def _bad(field: str, expected: str) -> InvalidArgument:
    return InvalidArgument("BAD_PARAMETER", f"{field} must be {expected}.", field=field)
