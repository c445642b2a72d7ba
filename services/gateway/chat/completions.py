"""Joins chunks into completions, cuts completions into chunks, and checks both (OpenAI's API).

Servers send more fields than OpenAI documents, such as ``reasoning_content``. They are kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from services.gateway.llm.response_bodies import as_chunk
from services.gateway.llm.types import Json, completion_text, delta_text, finish_reason

# Parts of a message, or of a chunk's delta, that are not text.
_OTHER_PARTS = ("tool_calls", "function_call", "refusal", "audio")
# Padding against attackers that measure encrypted chunks. A completion has none.
_NOT_IN_COMPLETIONS = frozenset({"choices", "object", "usage", "obfuscation"})
_NOT_IN_CHOICES = frozenset({"index", "delta", "message", "logprobs", "finish_reason"})
# Fields of which each chunk has the whole value.
_NOT_JOINED = frozenset({"id", "index", "type", "role", "format"})


def is_cacheable(completion: Json) -> bool:
    """Return whether a completion is one choice of text that ended normally."""
    choices = completion.get("choices") or []
    if len(choices) != 1 or finish_reason(completion) != "stop" or not completion_text(completion):
        return False
    message = choices[0]["message"]
    return not any(message.get(name) for name in _OTHER_PARTS)


def is_text_delta(chunk: Json) -> bool:
    """Return whether a chunk only appends text to its single choice."""
    choices = chunk.get("choices") or []
    return len(choices) == 1 and bool(delta_text(chunk)) and not choices[0].get("finish_reason")


def without_usage(chunk: Json) -> Json | None:
    """Return a chunk as a server sends it to a caller who does not want the usage.

    Returns None for the chunk at the end of a stream that has only the usage.
    """
    if "usage" not in chunk:
        return chunk
    if chunk["usage"] is None:
        return {name: value for name, value in chunk.items() if name != "usage"}
    return chunk if chunk.get("choices") else None


def join(chunks: Sequence[Json]) -> Json | None:
    """Return the completion that a stream of chunks amounts to.

    Returns None for a stream without a finish reason, or with more than one choice of text.
    """
    choices = [choice for chunk in chunks for choice in chunk.get("choices") or []]
    reasons = [choice.get("finish_reason") for choice in choices]
    if not any(reasons) or not all(map(_is_one_text, choices)):
        return None
    completion: Json = {}
    for chunk in chunks:
        for name, value in chunk.items():
            # Azure's first chunk has an empty id and an empty model.
            if name not in _NOT_IN_COMPLETIONS and not completion.get(name):
                completion[name] = value
    choice: Json = {"index": 0, "message": _join_deltas(choices), "logprobs": None}
    for one in choices:
        further = {name: value for name, value in one.items() if name not in _NOT_IN_CHOICES}
        choice |= {name: value or choice.get(name) for name, value in further.items()}
    choice["finish_reason"] = next(filter(None, reasons))
    completion |= {"object": "chat.completion", "choices": [choice]}
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    return completion | ({"usage": usages[-1]} if usages else {})


def from_text(text: str, model: str, name: str, created: float) -> Json:
    """Return the completion of a text that no language model has written.

    Args:
        text: the answer.
        model: the model that the caller asked for.
        name: makes the completion's id.
        created: seconds since 1970.
    """
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": int(created),
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def split(completion: Json, pieces: Iterable[str]) -> Iterator[Json]:
    """Yield a completion as the chunks of a stream: the role, the pieces, the end, the usage.

    Further fields of the message come in one chunk before the pieces. What is not one text is one
    chunk.
    """
    if len(completion.get("choices") or []) != 1 or not completion_text(completion):
        yield as_chunk(completion)
        return
    head = {name: completion[name] for name in completion if name not in _NOT_IN_COMPLETIONS}
    head |= {"object": "chat.completion.chunk"}
    [first] = completion["choices"]
    further = {name: value for name, value in first.items() if name not in _NOT_IN_CHOICES}
    message = {"role": "assistant", "refusal": None} | first["message"]

    def chunk(delta: Json, reason: str | None = None, **more: Any) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason, **more}
        return {**head, "choices": [choice], "usage": None}

    yield chunk({"role": message.pop("role"), "content": "", "refusal": message.pop("refusal")})
    del message["content"]
    if extras := {name: value for name, value in message.items() if value}:
        yield chunk(extras)
    for piece in pieces:
        yield chunk({"content": piece})
    yield chunk({}, finish_reason(completion), **further)
    yield {**head, "choices": [], "usage": completion.get("usage")}


def _join_deltas(choices: Sequence[Json]) -> Json:
    """Return the message that deltas amount to, joined as OpenAI's clients do."""
    joined = _Joined()
    for choice in choices:
        joined.add(choice.get("delta") or {})
    message: Json = {"role": "assistant", "content": "", "refusal": None}
    return message | {name: one for name, one in joined.value().items() if one is not None}


class _Joined:
    """A value that arrives in parts: an object, a text, a list, or anything else.

    The parts of texts are joined once, so that a long stream takes linear time.
    """

    def __init__(self) -> None:
        self._latest: Any = None
        self._texts: list[str] = []
        self._fields: dict[str, _Joined] = {}
        self._items: list[_Joined] = []
        self._by_index: dict[Any, _Joined] = {}

    def add(self, part: Any, name: str = "") -> None:
        """Add a part. Null adds nothing."""
        if part is None:
            return
        self._latest = part
        if isinstance(part, str) and name not in _NOT_JOINED:
            self._texts.append(part)
        elif isinstance(part, dict):
            for key, value in part.items():
                self._fields.setdefault(key, _Joined()).add(value, key)
        elif isinstance(part, list):
            for item in part:
                self._add_item(item)

    def _add_item(self, item: Any) -> None:
        """Append an item, or join it to the one of the same ``index``."""
        index = item.get("index") if isinstance(item, dict) else None
        joined = self._by_index.get(index) if isinstance(index, int) else None
        if joined is None:
            joined = _Joined()
            self._items.append(joined)
            if isinstance(index, int):
                self._by_index[index] = joined
        joined.add(item)

    def value(self) -> Any:
        """Return the whole value, of the type of the latest part."""
        match self._latest:
            case str():
                return "".join(self._texts) if self._texts else self._latest
            case dict():
                return {name: one.value() for name, one in self._fields.items()}
            case list():
                return [one.value() for one in self._items]
        return self._latest


def _is_one_text(choice: Json) -> bool:
    delta = choice.get("delta") or {}
    return (
        (choice.get("index") or 0) == 0
        and not choice.get("logprobs")
        and isinstance(delta.get("content") or "", str)
        and not any(delta.get(name) for name in _OTHER_PARTS)
    )
