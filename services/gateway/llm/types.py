"""The plain data that OpenAI-compatible servers exchange, and readers of it.

A completion is the whole reply to a request, a chunk is one event of a stream
(https://platform.openai.com/docs/api-reference/chat). Most readers accept both.
"""

from typing import Any

Json = dict[str, Any]


def completion_text(completion: Json) -> str:
    """Return the text of a completion's first choice, or an empty string."""
    return _content(_first_choice(completion).get("message"))


def delta_text(chunk: Json) -> str:
    """Return the text that a chunk appends to the first choice, or an empty string."""
    for choice in chunk.get("choices") or []:
        if choice.get("index", 0) == 0 and (content := _content(choice.get("delta"))):
            return content
    return ""


def finish_reason(reply: Json) -> str:
    """Return why the first choice of a completion or a chunk ended, or an empty string."""
    return str(_first_choice(reply).get("finish_reason") or "")


def token_usage(reply: Json) -> dict[str, int]:
    """Return the tokens of the prompt and of the completion, if the server reports them."""
    counts = reply.get("usage") or {}
    names = ("prompt_tokens", "completion_tokens")
    return {name: int(counts[name]) for name in names if counts.get(name) is not None}


def _first_choice(reply: Json) -> Json:
    choice: Json = (reply.get("choices") or [{}])[0]
    return choice


def _content(message: Json | None) -> str:
    content = (message or {}).get("content")
    return content if isinstance(content, str) else ""
