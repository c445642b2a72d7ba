"""Reads requests of OpenAI's Responses API, and translates them to chat completions.

https://platform.openai.com/docs/api-reference/responses/create
"""

from collections.abc import Callable
from typing import Any

from services.errors import InvalidArgument
from services.gateway.llm.types import Json

# Fields with another name in chat completions. Fields that this module does not know are copied,
# since some servers take more fields than OpenAI.
_RENAMED = {"max_output_tokens": "max_completion_tokens"}
# Fields that change nothing in the answer's text, or that are translated below.
_DROPPED = frozenset(
    """input instructions text reasoning tools tool_choice parallel_tool_calls metadata store
    include stream_options truncation background previous_response_id conversation prompt
    max_tool_calls top_logprobs""".split()
)
_STATE_FIELDS = ("previous_response_id", "conversation", "prompt", "background", "store")
_ROLES = ("user", "assistant", "system", "developer")
_TEXT_TYPES = ("input_text", "output_text", "text")
_LOGPROBS = "message.output_text.logprobs"


class Untranslatable(Exception):
    """A request that has no equivalent chat completion; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def to_chat(body: Json) -> Json:
    """Translate a request to one for a chat completion.

    Raises:
        Untranslatable: the request uses state of the server, the server's tools, or something else
            that chat completions do not have.
        InvalidArgument: the request is not valid.
    """
    _check_fields(body)
    most = body.get("max_output_tokens")
    if most is not None and type(most) is not int:
        raise _invalid("max_output_tokens", "an integer")
    chat = {
        _RENAMED.get(name, name): value
        for name, value in body.items()
        if name not in _DROPPED and value is not None
    }
    chat["messages"] = _messages(body)
    chat |= _text_options(_object(body, "text"))
    chat |= _reasoning_options(_object(body, "reasoning"))
    if tools := _list(body, "tools"):
        chat["tools"] = [_tool(tool) for tool in tools]
        chat |= _tool_options(body)
    if chat.get("stream"):
        chat["stream_options"] = {"include_usage": True}
    return chat


def _check_fields(body: Json) -> None:
    """Raise Untranslatable for fields without an equivalent."""
    if any(body.get(name) for name in _STATE_FIELDS):
        raise Untranslatable("stateful")
    if body.get("top_logprobs") or _LOGPROBS in _list(body, "include"):
        raise Untranslatable("more_than_one_text")
    if body.get("truncation") not in (None, "disabled"):
        raise Untranslatable("not_translatable")


def _messages(body: Json) -> list[Json]:
    messages: list[Json] = []
    if instructions := body.get("instructions"):
        messages.append({"role": "system", "content": _string(instructions, "instructions")})
    given = body.get("input")
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise _invalid("input", "a text or a non-empty list of items")
    for index, item in enumerate(given):
        _add_item(messages, item, f"input[{index}]")
    return messages


def _add_item(messages: list[Json], item: Any, place: str) -> None:
    """Append the message of an input item. Items of one turn of the assistant share a message."""
    if not isinstance(item, dict):
        raise _invalid(place, "an object")
    kind = item.get("type") or "message"
    if kind == "message":
        messages.append(_message(item, place))
    elif kind == "function_call":
        call = _tool_call(item, place)
        if not (messages and messages[-1]["role"] == "assistant"):
            messages.append({"role": "assistant", "content": None})
        messages[-1].setdefault("tool_calls", []).append(call)
    elif kind == "function_call_output":
        name = _string(item.get("call_id"), f"{place}.call_id")
        content = _content(item.get("output"), f"{place}.output")
        messages.append({"role": "tool", "tool_call_id": name, "content": content})
    else:
        raise Untranslatable("stateful" if kind == "item_reference" else "not_translatable")


def _message(item: Json, place: str) -> Json:
    role = item.get("role")
    if role not in _ROLES:
        raise _invalid(f"{place}.role", f"one of {', '.join(_ROLES)}")
    return {"role": role, "content": _content(item.get("content"), f"{place}.content")}


def _tool_call(item: Json, place: str) -> Json:
    name, arguments, call_id = (
        _string(item.get(field), f"{place}.{field}") for field in ("name", "arguments", "call_id")
    )
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def _content(content: Any, place: str) -> Any:
    """Return the content of a chat message: a text, or parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _invalid(place, "a text or a list of parts")
    parts = [_part(part, f"{place}[{index}]") for index, part in enumerate(content)]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


def _part(part: Any, place: str) -> Json:
    if not isinstance(part, dict):
        raise _invalid(place, "an object")
    kind = part.get("type")
    if kind in _TEXT_TYPES:
        return {"type": "text", "text": _string(part.get("text"), f"{place}.text")}
    translate = _PARTS.get(str(kind))
    if translate is None:
        raise Untranslatable("not_translatable")
    return translate(part)


def _picture(part: Json) -> Json:
    if not isinstance(part.get("image_url"), str):  # a file of the server
        raise Untranslatable("stateful")
    details = {"detail": part["detail"]} if part.get("detail") else {}
    return {"type": "image_url", "image_url": {"url": part["image_url"], **details}}


def _file(part: Json) -> Json:
    if not isinstance(part.get("file_data"), str):
        raise Untranslatable("stateful")
    file = {name: part[name] for name in ("filename", "file_data") if part.get(name)}
    return {"type": "file", "file": file}


_PARTS: dict[str, Callable[[Json], Json]] = {
    "input_image": _picture,
    "input_file": _file,
    "input_audio": lambda part: {"type": "input_audio", "input_audio": part.get("input_audio")},
    "refusal": lambda part: {"type": "refusal", "refusal": part.get("refusal")},
}


def _text_options(text: Json) -> Json:
    options: Json = {"verbosity": text["verbosity"]} if text.get("verbosity") else {}
    form = _object(text, "format", "text.format")
    match form.get("type", "text"):
        case "text":
            return options
        case "json_object":
            return options | {"response_format": {"type": "json_object"}}
        case "json_schema":
            schema = {
                name: value for name, value in form.items() if name != "type" and value is not None
            }
            return options | {"response_format": {"type": "json_schema", "json_schema": schema}}
    raise Untranslatable("not_translatable")


def _reasoning_options(reasoning: Json) -> Json:
    if any(value for name, value in reasoning.items() if name != "effort"):
        raise Untranslatable(
            "not_translatable"
        )  # a chat completion has no summary of the reasoning
    return {"reasoning_effort": reasoning["effort"]} if reasoning.get("effort") else {}


def _tool(tool: Any) -> Json:
    if not isinstance(tool, dict):
        raise _invalid("tools", "a list of objects")
    if tool.get("type") != "function":
        raise Untranslatable("hosted_tools")
    function = {name: value for name, value in tool.items() if name != "type" and value is not None}
    return {"type": "function", "function": function}


def _tool_options(body: Json) -> Json:
    options: Json = {}
    if body.get("parallel_tool_calls") is not None:
        options["parallel_tool_calls"] = body["parallel_tool_calls"]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        if choice.get("type") != "function":
            raise Untranslatable("hosted_tools")
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    return options | ({"tool_choice": choice} if choice is not None else {})


def _object(body: Json, name: str, field: str = "") -> Json:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise _invalid(field or name, "an object")
    return value or {}


def _list(body: Json, name: str) -> list[Any]:
    value = body.get(name)
    if value is not None and not isinstance(value, list):
        raise _invalid(name, "a list")
    return value or []


def _string(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise _invalid(field, "a text")
    return value


def _invalid(field: str, expected: str) -> InvalidArgument:
    return InvalidArgument("BAD_INPUT", f"{field} must be {expected}.", field=field)
