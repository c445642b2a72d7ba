"""Reads pairs of texts, and splits them so that no text is in both parts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_LABEL_KEYS = ("label", "duplicate")  # pairs for the cache's calibration have "duplicate"


@dataclass(frozen=True)
class TextPair:
    """Two texts, and whether they match."""

    a: str
    b: str
    matches: bool = True


def read(file: Path) -> list[TextPair]:
    """Read lines of JSON: ``{"a": …, "b": …}``, and ``"label": true`` or ``false`` where known.

    Raises:
        ValueError: a line is not such a pair, or no pair matches.
    """
    pairs = [
        _parse(line, f"{file}:{number}")
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if line.strip()
    ]
    if not any(pair.matches for pair in pairs):
        raise ValueError(f"{file} has no pair of matching texts. At least one is needed")
    return pairs


def split(pairs: Sequence[TextPair], hold_out: int) -> tuple[list[TextPair], list[TextPair]]:
    """Split pairs into training and held-out pairs that share no text.

    Pairs that share a text form a group. The first of every ``hold_out`` groups with a matching
    pair is held out, and the first of every ``hold_out`` groups without one.

    Args:
        pairs: the pairs, in any order.
        hold_out: 0 holds out nothing.
    """
    group_of = groups(pairs)
    matching = {group_of[row] for row, pair in enumerate(pairs) if pair.matches}
    with_match = [*dict.fromkeys(group for group in group_of if group in matching)]
    without = [*dict.fromkeys(group for group in group_of if group not in matching)]
    held_out = {*with_match[::hold_out], *without[::hold_out]} if hold_out else set()
    return (
        [pair for row, pair in enumerate(pairs) if group_of[row] not in held_out],
        [pair for row, pair in enumerate(pairs) if group_of[row] in held_out],
    )


def groups(pairs: Sequence[TextPair]) -> list[int]:
    """Return the group of each pair.

    Pairs that share a text, even indirectly, have the same group.
    """
    group_of = groups_of_texts(pairs)
    return [group_of[pair.a] for pair in pairs]


def groups_of_texts(pairs: Sequence[TextPair]) -> dict[str, int]:
    """Return the group of each text. The texts of a pair have the same group."""
    texts = dict.fromkeys(text for pair in pairs for text in (pair.a, pair.b))
    numbers = {text: number for number, text in enumerate(texts)}
    ends = ([numbers[pair.a] for pair in pairs], [numbers[pair.b] for pair in pairs])
    edges = coo_array((np.ones(len(pairs), np.int8), ends), (len(numbers), len(numbers)))
    _, labels = connected_components(edges, directed=False)
    return dict(zip(numbers, labels.tolist(), strict=True))


def _parse(line: str, where: str) -> TextPair:
    try:
        values: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(values, dict) or not all(
        isinstance(values.get(key), str) and values[key].strip() for key in ("a", "b")
    ):
        raise ValueError(f'{where}: expected {{"a": "text", "b": "text"}}')
    label = next((values[key] for key in _LABEL_KEYS if key in values), True)
    if label not in (0, 1):
        raise ValueError(f"{where}: label must be true or false, not {label!r}")
    return TextPair(values["a"], values["b"], bool(label))
