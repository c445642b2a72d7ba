"""Records the chunks of a stream compactly, so that a replay equals the stream field by field.

A record is a list, with one item for each chunk. Most chunks differ from an earlier one only in
their text. An item is one of these:

- a chunk, as it was;
- a text: the chunk is the last whole chunk with text, with this text instead;
- a text and an object: the same, and the fields of the object differ as well.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from services.gateway.llm.types import Json

Record = list[Any]


def record(chunks: Iterable[Json]) -> Record:
    """Return the record of chunks."""
    items: Record = []
    template: Json | None = None
    for chunk in chunks:
        text = _text(chunk)
        if text is not None and template is not None and _is_alike(chunk, template):
            others = {name: value for name, value in chunk.items() if template[name] != value}
            others.pop("choices", None)
            items.append([text, others] if others else text)
        else:
            items.append(chunk)
            template = chunk if text is not None else template
    return items


def replay(items: Record) -> Iterator[Json]:
    """Yield the chunks of a record."""
    template: Json = {}
    for item in items:
        if isinstance(item, dict):
            template = item if _text(item) is not None else template
            yield item
        else:
            text, others = (item, {}) if isinstance(item, str) else item
            yield {**_with_text(template, text), **others}


def _text(chunk: Json) -> str | None:
    """Return the text of a chunk that has one choice with a text, or None."""
    choices = chunk.get("choices") or []
    content = (choices[0].get("delta") or {}).get("content") if len(choices) == 1 else None
    return content if isinstance(content, str) else None


def _is_alike(chunk: Json, template: Json) -> bool:
    """Return whether the choice of a chunk differs from a template's only in the text."""
    text = _text(chunk) or ""
    return (
        chunk.keys() == template.keys()
        and chunk["choices"] == _with_text(template, text)["choices"]
    )


def _with_text(template: Json, text: str) -> Json:
    [choice] = template["choices"]
    delta = {**choice["delta"], "content": text}
    return {**template, "choices": [{**choice, "delta": delta}]}
