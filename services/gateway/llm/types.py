"""The plain data that OpenAI-compatible servers exchange, and readers of it.

A completion is the whole reply to a request, a chunk is one event of a stream
(https://platform.openai.com/docs/api-reference/chat). Most readers accept both.
"""

from types import NoneType
from typing import Any

Json = dict[str, Any]
# Larger counts are nonsense, and do not fit a message.
_MAX_TOKENS = 2**31 - 1


def has_shape(reply: Json) -> bool:
    """Return whether the choices of a completion or a chunk are as the readers expect them."""
    choices = reply.get("choices")
    return choices is None or (isinstance(choices, list) and all(map(_is_choice, choices)))


def completion_text(completion: Json) -> str:
    """Return the text of a completion's first choice, or an empty string."""
    return _content(_first_choice(completion).get("message"))


def delta_text(chunk: Json) -> str:
    """Return the text that a chunk appends to the first choice, or an empty string."""
    for choice in chunk.get("choices") or []:
        if (choice.get("index") or 0) == 0 and (content := _content(choice.get("delta"))):
            return content
    return ""


def finish_reason(reply: Json) -> str:
    """Return why the first choice of a completion or a chunk ended, or an empty string."""
    return str(_first_choice(reply).get("finish_reason") or "")


def token_usage(reply: Json) -> dict[str, int]:
    """Return the tokens of the prompt and of the completion, if the server reports them."""
    counts = reply.get("usage")
    if not isinstance(counts, dict):
        return {}
    names = ("prompt_tokens", "completion_tokens")
    return {name: int(counts[name]) for name in names if _is_count(counts.get(name))}


def _is_count(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= _MAX_TOKENS


def _is_choice(choice: Any) -> bool:
    return isinstance(choice, dict) and all(
        isinstance(choice.get(name), dict | NoneType) for name in ("message", "delta")
    )


def _first_choice(reply: Json) -> Json:
    choice: Json = (reply.get("choices") or [{}])[0]
    return choice


def _content(message: Json | None) -> str:
    content = (message or {}).get("content")
    return content if isinstance(content, str) else ""
