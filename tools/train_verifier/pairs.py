"""Reads labelled pairs of questions from a file, and splits them without leaks."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.errors import InvalidArgument
from services.gateway.cache.labelled_pairs import LabelledPair, component_representatives

# Pairs whose hash modulo 100 is below the first number are held out; those below the second
# calibrate.
HELD_OUT_END, CALIBRATION_END = 26, 36


@dataclass(frozen=True)
class Split:
    """Pairs for training, calibration and measurement; no question is in two parts."""

    train: list[LabelledPair]
    calibration: list[LabelledPair]
    held_out: list[LabelledPair]


def read(path: Path) -> list[LabelledPair]:
    """Read a file of JSON lines: ``{"a": …, "b": …, "duplicate": …}``.

    Raises:
        InvalidArgument: a line is not such an object.
    """
    pairs = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            pairs.append(LabelledPair(str(row["a"]), str(row["b"]), bool(row["duplicate"])))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(
                "BAD_PAIR",
                f'Line {number} is not a JSON object with "a", "b" and "duplicate".',
                line=number,
            ) from error
    return pairs


def split(pairs: Sequence[LabelledPair]) -> Split:
    """Split pairs into three parts; directly or indirectly connected questions stay together.

    A hash of the component's representative chooses the part, so the split is the same everywhere.
    """
    parts = Split([], [], [])
    representatives = component_representatives(pairs)
    for pair in pairs:
        digest = hashlib.sha256(representatives[pair.one].encode()).hexdigest()
        remainder = int(digest, 16) % 100
        if remainder < HELD_OUT_END:
            parts.held_out.append(pair)
        elif remainder < CALIBRATION_END:
            parts.calibration.append(pair)
        else:
            parts.train.append(pair)
    return parts
