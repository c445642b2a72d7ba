"""Pairs of questions that ask the same or do not, read from a file and split fairly."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.errors import InvalidArgument
from services.gateway.cache.calibration import Pair, first_connected

HELD_OUT, CALIBRATION = 26, 36  # per cent: where the parts end


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
    first = first_connected(pairs)
    for pair in pairs:
        place = int(hashlib.sha256(first[pair.one].encode()).hexdigest(), 16) % 100
        parts[0 if place >= CALIBRATION else 1 if place >= HELD_OUT else 2].append(pair)
    return Split(*parts)
