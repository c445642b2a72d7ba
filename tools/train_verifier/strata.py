"""Generates pairs of questions by kind of difference: order, script, class words, numbers and more.

The frames are in ``strata.toml``. The verifier trains on one set of them and is measured on the
other; the sets share no wording and no value.
"""

import functools
import itertools
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services.gateway.cache.labelled_pairs import LabelledPair

Part = Literal["training", "held_out"]
FRAMES = Path(__file__).with_name("strata.toml")
KINDS = ("order", "script", "class", "number", "negation", "name", "code", "language")
OF_A_KIND = 300


@dataclass(frozen=True)
class Frame:
    """Wordings with placeholders.

    Attributes:
        wordings: ask the same.
        values: groups of values for ``{x}`` (and ``{y}``) that exclude each other.
        topics: values for ``{t}``.
        swap: a look-alike exchanges ``{x}`` and ``{y}`` rather than the value of ``{x}``.
    """

    wordings: list[str]
    values: list[list[str]]
    topics: tuple[str, ...] = ("",)
    swap: bool = False

    def fillings(self) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
        """Yield the placeholders of each question, and those of its look-alike."""
        for topic, group in itertools.product(self.topics, self.values):
            for x, y in itertools.permutations(group, 2):
                # Without ``{y}`` in the wordings, the second value is the look-alike's.
                yield {"t": topic, "x": x, "y": y}, {"t": topic, "x": y, "y": x}


@functools.cache
def frames(part: Part) -> dict[str, list[Frame]]:
    """Return the frames of a part by kind."""
    data = tomllib.loads(FRAMES.read_text())[part]
    return {kind: [Frame(**frame) for frame in data[kind]] for kind in KINDS}


def look_alikes(part: Part, kind: str, count: int = OF_A_KIND, seed: int = 1) -> list[LabelledPair]:
    """Return at most ``count`` pairs that look alike and do not ask the same.

    Pairs with equal wordings come first, because they look most alike.
    """
    equal, other = _Pairs(), _Pairs()
    for frame in frames(part)[kind]:
        for one, two in frame.fillings():
            for first, second in itertools.product(frame.wordings, repeat=2):
                pairs = equal if first == second else other
                pairs.add(first.format(**one), second.format(**two))
    return [
        LabelledPair(one, two, same=False)
        for one, two in [*equal.shuffled(seed), *other.shuffled(seed)][:count]
    ]


def paraphrases(part: Part, kind: str, count: int = OF_A_KIND, seed: int = 1) -> list[LabelledPair]:
    """Return at most ``count`` pairs of different wordings that ask the same."""
    pairs = _Pairs()
    for frame in frames(part)[kind]:
        for filling, _ in frame.fillings():
            for first, second in itertools.combinations(frame.wordings, 2):
                pairs.add(first.format(**filling), second.format(**filling))
    return [LabelledPair(one, two, same=True) for one, two in pairs.shuffled(seed)[:count]]


class _Pairs:
    """Distinct unordered pairs of texts."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], None] = {}

    def add(self, one: str, other: str) -> None:
        self._pairs[min(one, other), max(one, other)] = None

    def shuffled(self, seed: int) -> list[tuple[str, str]]:
        """Return the pairs in random order, each with its texts in random order."""
        rng = random.Random(seed)  # noqa: S311 - not a secret
        pairs = [pair if rng.random() < 0.5 else pair[::-1] for pair in self._pairs]  # noqa: PLR2004
        rng.shuffle(pairs)
        return pairs
