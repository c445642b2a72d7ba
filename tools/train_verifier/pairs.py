"""Pairs of questions that ask the same or do not, read from a file and split fairly."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.errors import InvalidArgument

HELD_OUT, CALIBRATION = 26, 36  # per cent: where the parts end


@dataclass(frozen=True)
class Pair:
    """Two questions, and whether the answer to one answers the other."""

    one: str
    other: str
    same: bool


@dataclass(frozen=True)
class Split:
    """Pairs to learn from, to calibrate by and to measure with; no question is in two parts."""

    train: list[Pair]
    calibration: list[Pair]
    held_out: list[Pair]


def read(path: Path) -> list[Pair]:
    """Read lines of JSON: ``{"a": …, "b": …, "duplicate": …}``.

    Raises:
        InvalidArgument: a line is something else.
    """
    pairs = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            pairs.append(Pair(str(row["a"]), str(row["b"]), bool(row["duplicate"])))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(
                "BAD_PAIR",
                f'Line {number} is not {{"a": …, "b": …, "duplicate": …}}.',
                line=number,
            ) from error
    return pairs


def split(pairs: Sequence[Pair]) -> Split:
    """Part pairs by connected question: who shares a question, however remotely, stays together.

    The part is the hash of the alphabetically first question of the connected ones, so it is the
    same on every machine.
    """
    parts: list[list[Pair]] = [[], [], []]
    first = _first_connected(pairs)
    for pair in pairs:
        place = int(hashlib.sha256(first[pair.one].encode()).hexdigest(), 16) % 100
        parts[0 if place >= CALIBRATION else 1 if place >= HELD_OUT else 2].append(pair)
    return Split(*parts)


def halves(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Part pairs in two by connected question."""
    parts: tuple[list[Pair], list[Pair]] = ([], [])
    first = _first_connected(pairs)
    for pair in pairs:
        parts[hashlib.sha256(first[pair.one].encode()).digest()[0] % 2].append(pair)
    return parts


def texts(pairs: Iterable[Pair]) -> list[str]:
    """Return the distinct questions of pairs, in their order."""
    return list(dict.fromkeys(text for pair in pairs for text in (pair.one, pair.other)))


def _first_connected(pairs: Sequence[Pair]) -> dict[str, str]:
    """Map each question to the alphabetically first of those it is connected with."""
    above: dict[str, str] = {}

    def top(text: str) -> str:
        above.setdefault(text, text)
        while above[text] != text:
            above[text] = above[above[text]]
            text = above[text]
        return text

    for pair in pairs:
        one, other = sorted((top(pair.one), top(pair.other)))
        above[other] = one
    return {text: top(text) for text in list(above)}
