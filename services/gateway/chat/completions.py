"""Joins chunks into completions, cuts completions into chunks, and checks both (OpenAI's API)."""

from collections.abc import Iterable, Iterator, Sequence

from services.gateway.llm.types import Json, completion_text, delta_text, finish_reason

# Parts of a chunk's delta that are not text.
_OTHER_PARTS = ("tool_calls", "function_call", "refusal", "audio")


def is_cacheable(completion: Json) -> bool:
    """Return whether a completion is one choice of text that ended normally."""
    choices = completion.get("choices") or []
    if len(choices) != 1 or finish_reason(completion) != "stop" or not completion_text(completion):
        return False
    message = choices[0]["message"]
    return not any(message.get(name) for name in ("tool_calls", "function_call", "refusal"))


def is_text_delta(chunk: Json) -> bool:
    """Return whether a chunk only appends text to its single choice."""
    choices = chunk.get("choices") or []
    return len(choices) == 1 and bool(delta_text(chunk)) and not choices[0].get("finish_reason")


def join(chunks: Sequence[Json]) -> Json | None:
    """Return the completion that a stream of chunks amounts to.

    Returns None for a stream without a finish reason, or with more than one choice of text.
    """
    reasons = [
        choice.get("finish_reason") for chunk in chunks for choice in chunk.get("choices") or []
    ]
    if not any(reasons) or not all(map(_is_one_text, chunks)):
        return None
    first = chunks[0]
    completion: Json = {
        name: first[name] for name in first if name not in ("choices", "usage", "object")
    }
    message = {"role": "assistant", "content": "".join(map(delta_text, chunks)), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None}
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


def replay(completion: Json, pieces: Iterable[str], *, include_usage: bool) -> Iterator[Json]:
    """Yield a completion as the chunks of a stream: the role, the pieces, the end, the usage."""
    head = {
        name: completion[name] for name in completion if name not in ("choices", "usage", "object")
    }
    head["object"] = "chat.completion.chunk"
    extra = {"usage": None} if include_usage else {}

    def chunk(delta: Json, reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**head, "choices": [choice], **extra}

    yield chunk({"role": "assistant", "content": ""})
    for piece in pieces:
        yield chunk({"content": piece})
    yield chunk({}, finish_reason(completion))
    if include_usage:
        yield {**head, "choices": [], "usage": completion.get("usage")}


def _is_one_text(chunk: Json) -> bool:
    return all(
        choice.get("index", 0) == 0
        and not choice.get("logprobs")
        and not any((choice.get("delta") or {}).get(name) for name in _OTHER_PARTS)
        for choice in chunk.get("choices") or []
    )
