"""Pairs of questions labelled as asking the same or not, and splits without shared questions."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LabelledPair:
    """Two questions, and whether the answer to one answers the other."""

    one: str
    other: str
    same: bool


def distinct_texts(pairs: Iterable[LabelledPair]) -> list[str]:
    """Return the distinct questions of pairs, in order of appearance."""
    return list(dict.fromkeys(text for pair in pairs for text in (pair.one, pair.other)))


def split_in_halves(
    pairs: Sequence[LabelledPair],
) -> tuple[list[LabelledPair], list[LabelledPair]]:
    """Split pairs into two halves; connected questions stay together.

    A hash of the component's representative chooses the half, so the split is the same everywhere.
    """
    halves: tuple[list[LabelledPair], list[LabelledPair]] = ([], [])
    representatives = component_representatives(pairs)
    for pair in pairs:
        halves[hashlib.sha256(representatives[pair.one].encode()).digest()[0] % 2].append(pair)
    return halves


def component_representatives(pairs: Sequence[LabelledPair]) -> dict[str, str]:
    """Map each question to the alphabetically first one that pairs connect it with (union-find)."""
    parents: dict[str, str] = {}

    def root(text: str) -> str:
        parents.setdefault(text, text)
        while parents[text] != text:
            parents[text] = parents[parents[text]]
            text = parents[text]
        return text

    for pair in pairs:
        first, last = sorted((root(pair.one), root(pair.other)))
        parents[last] = first
    return {text: root(text) for text in list(parents)}
