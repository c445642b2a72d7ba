"""How a tokenizer reads a text: its unknown tokens, the characters per token, and the cut."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

from tokenizers import Tokenizer

_WORD = re.compile(r"\S+")


class Word(NamedTuple):
    """A run of characters without spaces, by its code points in the text.

    Attributes:
        start: the first code point.
        end: the code point after the last.
        characters: how many characters it has; combining marks are not counted.
        tokens: how many tokens it was split into.
        unknown: whether one of them is unknown to the model.
    """

    start: int
    end: int
    characters: int
    tokens: int
    unknown: bool


class Reading(NamedTuple):
    """How a text was tokenised.

    Attributes:
        text: the text, up to ``end``, if it has ``words``; empty otherwise.
        unknown_share: share of the tokens that are unknown to the model.
        characters: how many characters were tokenised, without spaces and combining marks.
        tokens: how many tokens they were split into.
        end: the code point at which the model stops reading.
        length: number of code points in the whole text.
        words: all words, if the text has an unknown token or a character beyond ASCII; empty
            otherwise.
    """

    text: str
    unknown_share: float
    characters: int
    tokens: int
    end: int
    length: int
    words: tuple[Word, ...] = ()


class Reader:
    """Describes how texts were tokenised.

    Args:
        tokenizer: the model's.
        unknown_token: id of the token for unknown characters; None if there is no such token.
    """

    def __init__(self, tokenizer: Tokenizer, unknown_token: int | None) -> None:
        special_ids = tokenizer.encode("").ids
        self._special_count = len(special_ids)
        # CLIP's tokenizer ends every text with the token that it also uses for unknown characters.
        self._unknown = None if unknown_token in special_ids else unknown_token

    def read(self, encoding: Any, text: str, *, prompt_length: int, truncated: bool) -> Reading:
        """Describe an encoding of ``text`` that follows a prompt of ``prompt_length`` code points.

        It is fast for ASCII text without unknown tokens.
        """
        ids = encoding.ids
        tokens = max(1, len(ids) - self._special_count)
        unknown_count = 0 if self._unknown is None else ids.count(self._unknown)
        end = len(text)
        if truncated:
            end = max(0, _last_code_point(encoding) - prompt_length)
        if not unknown_count and text.isascii():
            characters = sum(map(len, text[:end].split()))
            return Reading("", 0.0, characters, tokens, end, len(text))
        words = tuple(self._words(encoding, text[:end], prompt_length))
        characters = sum(word.characters for word in words)
        share = unknown_count / tokens
        return Reading(text[:end], share, characters, tokens, end, len(text), words)

    def _words(self, encoding: Any, text: str, prompt_length: int) -> Iterator[Word]:
        tokens = [
            (start - prompt_length, end - prompt_length, token == self._unknown)
            for (start, end), token, special in zip(
                encoding.offsets, encoding.ids, encoding.special_tokens_mask, strict=True
            )
            if not special
        ]
        position = 0
        for match in _WORD.finditer(text):
            count, unknown = 0, False
            while position < len(tokens) and tokens[position][0] < match.end():
                if tokens[position][1] > match.start():
                    count += 1
                    unknown = unknown or tokens[position][2]
                position += 1
            yield Word(*match.span(), _characters(match[0]), count, unknown)


def _last_code_point(encoding: Any) -> int:
    """Return the code point after the last token that is not special."""
    ends = (
        end
        for (_, end), special in zip(
            reversed(encoding.offsets), reversed(encoding.special_tokens_mask), strict=True
        )
        if not special
    )
    return int(next(ends, 0))


def _characters(word: str) -> int:
    """Count the characters of a word without combining marks and invisible characters."""
    if word.isascii():
        return len(word)
    return sum(unicodedata.category(character)[0] not in "CM" for character in word)
