"""A language model's replies as OpenAI's API has them: joined, cut into chunks, judged."""

from collections.abc import Iterable, Iterator, Sequence

from services.gateway.llm.types import Json, completion_text, delta_text, finish_reason


def storable(reply: Json) -> bool:
    """Say whether a reply is whole and plain: one choice of text that ended by itself."""
    choices = reply.get("choices") or []
    if len(choices) != 1 or finish_reason(reply) != "stop" or not completion_text(reply):
        return False
    message = choices[0]["message"]
    return not any(message.get(name) for name in ("tool_calls", "function_call", "refusal"))


def is_plain(chunk: Json) -> bool:
    """Say whether a chunk is no more than text of the first choice."""
    choices = chunk.get("choices") or []
    return len(choices) == 1 and bool(delta_text(chunk)) and not choices[0].get("finish_reason")


def join(chunks: Sequence[Json]) -> Json | None:
    """Return the reply that a whole stream of text says.

    None stands for one that was cut off, or that is more than one choice of text.
    """
    reasons = [
        choice.get("finish_reason") for chunk in chunks for choice in chunk.get("choices") or []
    ]
    if not any(reasons) or not all(map(_is_text, chunks)):
        return None
    first = chunks[0]
    reply: Json = {
        name: first[name] for name in first if name not in ("choices", "usage", "object")
    }
    message = {"role": "assistant", "content": "".join(map(delta_text, chunks)), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None}
    choice["finish_reason"] = next(filter(None, reasons))
    reply |= {"object": "chat.completion", "choices": [choice]}
    counted = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    return reply | ({"usage": counted[-1]} if counted else {})


def _is_text(chunk: Json) -> bool:
    return all(
        choice.get("index", 0) == 0
        and not choice.get("logprobs")
        and not any((choice.get("delta") or {}).get(name) for name in _MORE_THAN_TEXT)
        for choice in chunk.get("choices") or []
    )


_MORE_THAN_TEXT = ("tool_calls", "function_call", "refusal", "audio")


def replay(reply: Json, pieces: Iterable[str], *, with_usage: bool) -> Iterator[Json]:
    """Cut a reply into the chunks of a stream: its role, its pieces, its end, its usage."""
    head = {name: reply[name] for name in reply if name not in ("choices", "usage", "object")}
    head["object"] = "chat.completion.chunk"
    extra = {"usage": None} if with_usage else {}

    def chunk(delta: Json, reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**head, "choices": [choice], **extra}

    yield chunk({"role": "assistant", "content": ""})
    for part in pieces:
        yield chunk({"content": part})
    yield chunk({}, finish_reason(reply))
    if with_usage:
        yield {**head, "choices": [], "usage": reply.get("usage")}
