"""Pairs that follow from labelled ones: the duplicates of a duplicate ask the same."""

import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

from services.gateway.cache.labelled_pairs import LabelledPair, component_representatives

MAX_GROUP = 12  # larger groups come from wrong labels more often


def implied_pairs(known: Sequence[LabelledPair], seed: int) -> list[LabelledPair]:
    """Return pairs that are not among ``known``.

    Two questions of a group of duplicates ask the same. If two questions differ, those of their
    groups differ too; one pair is drawn for each known one.
    """
    rng = random.Random(seed)  # noqa: S311 - not a secret
    group_of = component_representatives([pair for pair in known if pair.same])
    groups = defaultdict(list)
    for text, representative in sorted(group_of.items()):
        groups[representative].append(text)
    found = {
        pair: True
        for texts in groups.values()
        if len(texts) <= MAX_GROUP
        for pair in combinations(texts, 2)
    }
    for pair in known:
        sides = [group_of.get(text, text) for text in (pair.one, pair.other)]
        if not pair.same and sides[0] != sides[1]:
            one, other = (rng.choice(groups.get(side) or [side]) for side in sides)
            found.setdefault((min(one, other), max(one, other)), False)
    for pair in known:
        found.pop((min(pair.one, pair.other), max(pair.one, pair.other)), None)
    return [LabelledPair(one, other, same) for (one, other), same in found.items()]
