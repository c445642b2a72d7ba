r"""Joins the halves of surrogate pairs, which some servers split over two chunks of a stream.

An emoji in JSON may be written as two escapes, such as ``\ud83d\ude42`` (RFC 8259, section 7).
Servers that cut texts by UTF-16 units send each half in a chunk of its own. Half a pair is not a
character, and UTF-8 cannot express it.
"""

import re
from typing import Any

from services.gateway.llm.types import Json

REPLACEMENT = "\ufffd"
# Escapes of halves, and halves that a server has wrongly encoded as UTF-8.
_MAYBE_HALF = re.compile(rb"\\u[dD]|\xed[\xa0-\xbf]")
_Path = tuple[Any, ...]


def may_have_halves(data: bytes) -> bool:
    """Return whether JSON text may contain halves of surrogate pairs."""
    return _MAYBE_HALF.search(data) is not None


def without_halves(value: Any) -> Any:
    """Return JSON data in which pairs are characters, and single halves are U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [without_halves(one) for one in value]
    if isinstance(value, dict):
        return {without_halves(name): without_halves(one) for name, one in value.items()}
    return value


class SurrogateJoiner:
    """Holds the first half of a pair back until the next text of the same field arrives."""

    def __init__(self) -> None:
        self._halves: dict[_Path, str] = {}

    def feed(self, chunk: Json, *, may_have_halves: bool) -> Json:
        """Return a chunk without halves. The end of a choice releases what is held back of it."""
        if not may_have_halves and not self._halves:
            return chunk
        choices = [
            self._feed_choice(choice, choice.get("index", 0))
            for choice in chunk.get("choices") or []
        ]
        whole: Json = without_halves({**chunk, "choices": choices} if choices else chunk)
        return whole

    def _feed_choice(self, choice: Json, index: Any) -> Json:
        is_last = bool(choice.get("finish_reason"))
        delta = self._feed(choice.get("delta") or {}, (str(index),), is_last)
        if is_last:
            for path in [path for path in self._halves if path[0] == str(index)]:
                del self._halves[path]
                name, *inner = path[1:]
                if not inner:
                    delta[name] = REPLACEMENT
        return {**choice, "delta": delta}

    def _feed(self, value: Any, path: _Path, is_last: bool) -> Any:
        if isinstance(value, str):
            text = self._halves.pop(path, "") + value
            if not is_last and "\ud800" <= text[-1:] <= "\udbff":
                self._halves[path], text = text[-1], text[:-1]
            return text
        if isinstance(value, dict):
            return {name: self._feed(one, (*path, name), is_last) for name, one in value.items()}
        if isinstance(value, list):
            return [
                self._feed(one, (*path, _place(one, place)), is_last)
                for place, one in enumerate(value)
            ]
        return value


def _place(value: Any, place: int) -> str:
    """Return the index that an item of a list names, or its place."""
    return str(value.get("index", place)) if isinstance(value, dict) else str(place)
