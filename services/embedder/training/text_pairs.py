"""Pairs of texts to learn from: read, and parted so that no text is on both sides."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_LABELS = ("label", "duplicate")  # the cache's pairs of questions say duplicate


@dataclass(frozen=True)
class Pair:
    """Two texts; whether they belong together."""

    a: str
    b: str
    same: bool = True


def read(file: Path) -> list[Pair]:
    """Read lines of JSON: ``{"a": …, "b": …}``, with ``"label": true`` or ``false`` if known.

    Raises:
        ValueError: a line is something else, or no pair belongs together.
    """
    found = [
        _pair(line, f"{file}:{number}")
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if line.strip()
    ]
    if not any(pair.same for pair in found):
        raise ValueError(f"{file} has no pair of texts that belong together")
    return found


def split(rows: Sequence[Pair], hold_out: int) -> tuple[list[Pair], list[Pair]]:
    """Part pairs into those to learn from and those held out, which share no text.

    Pairs that share a text are one group; of every ``hold_out`` groups with a pair that belongs
    together, the first is held out, of those without likewise. 0 holds out none.
    """
    group = groups(rows)
    same = {group[row] for row, pair in enumerate(rows) if pair.same}
    ordered = [*dict.fromkeys(one for one in group if one in same)]
    others = [*dict.fromkeys(one for one in group if one not in same)]
    out = {*ordered[::hold_out], *others[::hold_out]} if hold_out else set()
    seen = [pair for row, pair in enumerate(rows) if group[row] not in out]
    return seen, [pair for row, pair in enumerate(rows) if group[row] in out]


def groups(rows: Sequence[Pair]) -> list[int]:
    """Return each pair's group: pairs that share a text, directly or by others, are in one."""
    group = groups_of_texts(rows)
    return [group[pair.a] for pair in rows]


def groups_of_texts(rows: Sequence[Pair]) -> dict[str, int]:
    """Return the group of each text: those of a pair are in one."""
    texts = dict.fromkeys(text for pair in rows for text in (pair.a, pair.b))
    places = {text: place for place, text in enumerate(texts)}
    ends = ([places[pair.a] for pair in rows], [places[pair.b] for pair in rows])
    edges = coo_array((np.ones(len(rows), np.int8), ends), (len(places), len(places)))
    _, labels = connected_components(edges, directed=False)
    return dict(zip(places, labels.tolist(), strict=True))


def _pair(line: str, place: str) -> Pair:
    try:
        values: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is no JSON: {error}") from error
    if not isinstance(values, dict) or not all(
        isinstance(values.get(key), str) and values[key].strip() for key in ("a", "b")
    ):
        raise ValueError(f'{place}: expected {{"a": "text", "b": "text"}}')
    label = next((values[name] for name in _LABELS if name in values), True)
    if label not in (0, 1):
        raise ValueError(f"{place}: label must be true or false, not {label!r}")
    return Pair(values["a"], values["b"], bool(label))
