"""Finds marks like ``[1]`` in a language model's answer, which name passages by their numbers.

Models also write ``[1, 2]``, ``[1-3]`` and ``【1】``. ``MarkFilter`` turns these into ``[1]`` and
``[2]``. Numbers in code, such as ``list[0]``, are no marks.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from services.gateway.rag.ingest.segmentation import Span

_FENCE = "```"
_MAX_CODE = 200  # characters of a code span within a line
_SEPARATOR = r"\s?[,;，、–—-]\s?"
_GROUP = rf"[\[【](?P<numbers>\d{{1,4}}(?:{_SEPARATOR}\d{{1,4}}){{0,15}})[\]】]"
_CODE = rf"`[^`\n]{{1,{_MAX_CODE}}}`"
_UNFINISHED = (
    rf"(?P<unfinished>`{{1,2}}\Z|`[^`\n]{{0,{_MAX_CODE}}}\Z|[\[【][\d\s,;，、–—-]{{0,120}}\Z)"
)
_LAST_TOKEN = re.compile(rf"{_FENCE}|{_CODE}|{_GROUP}")
_TOKEN = re.compile(rf"{_FENCE}|{_CODE}|{_UNFINISHED}|{_GROUP}")
_FENCE_TOKEN = re.compile(rf"{_FENCE}|(?P<unfinished>`{{1,2}}\Z)")
_CODE_OR_MARK = re.compile(rf"{_FENCE}.*?(?:{_FENCE}|\Z)|{_CODE}|\[(?P<number>\d{{1,4}})\]", re.S)
_RANGE = re.compile(r"(\d+)\s?[-–—]\s?(\d+)")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Mark:
    """A mark: its place in the answer, and the number of the passage, from 1."""

    span: Span
    number: int


def find_marks(text: str, passages: int) -> list[Mark]:
    """Return the marks of a filtered answer that name one of its passages."""
    return [
        Mark(Span(*one.span()), int(one["number"]))
        for one in _CODE_OR_MARK.finditer(text)
        if one["number"] and 1 <= int(one["number"]) <= passages
    ]


class MarkFilter:
    """Removes marks that name no passage from a text that arrives in pieces.

    Args:
        passages: number of passages; they are numbered from 1.
    """

    def __init__(self, passages: int) -> None:
        self._passages = passages
        self._unfinished = ""
        self._last = ""  # the last character before ``_unfinished``
        self._in_fence = False
        self.dropped = 0

    def feed(self, piece: str) -> str:
        """Add a piece; return the filtered text up to an unfinished mark or unfinished code."""
        return self._filter(self._unfinished + piece, _TOKEN)

    def flush(self) -> str:
        """Return the rest of the text, filtered."""
        return self._filter(self._unfinished, _LAST_TOKEN)

    def _filter(self, text: str, pattern: re.Pattern[str]) -> str:
        """Return the filtered text. What a match of "unfinished" begins is kept for later."""
        parts, place, self._unfinished = [], 0, ""
        while token := (_FENCE_TOKEN if self._in_fence else pattern).search(text, place):
            if pattern is _TOKEN and token["unfinished"]:
                self._unfinished, text = token[0], text[: token.start()]
                break
            before = text[token.start() - 1] if token.start() else self._last
            parts += [text[place : token.start()], self._replaced(token, before)]
            place = token.end()
            if token[0] == _FENCE:
                self._in_fence = not self._in_fence
        self._last = text[-1:] or self._last
        return "".join([*parts, text[place:]])

    def _replaced(self, token: re.Match[str], before: str) -> str:
        """Return what takes the place of a token after the character ``before``."""
        if self._in_fence or not token["numbers"]:
            return token[0]
        numbers = list(_numbers(token["numbers"], self._passages))
        named = [number for number in numbers if 1 <= number <= self._passages]
        # "list[0]" and the interval "[0, 10]" cite nothing.
        if not named and (len(numbers) > 1 or before.isalnum() or before in ("_", ")", "]")):
            return token[0]
        self.dropped += len(numbers) - len(named)
        return "".join(f"[{number}]" for number in dict.fromkeys(named))


def _numbers(group: str, passages: int) -> Iterator[int]:
    """Yield the numbers of a group; of a range that ends beyond the passages, only its ends."""
    place = 0
    for one in _RANGE.finditer(group):
        yield from map(int, _NUMBER.findall(group, place, one.start()))
        first, last = int(one[1]), int(one[2])
        yield from range(first, last + 1) if first <= last <= passages else (first, last)
        place = one.end()
    yield from map(int, _NUMBER.findall(group, place))
