import asyncio
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from services.errors import InvalidArgument
from services.gateway.backends.types import Vectors
from services.gateway.cache.calibration import (
    PAIRS_PER_STEP,
    Calibration,
    PairList,
    calibrate_bound,
    lowest_bound,
    served_at,
)
from services.gateway.cache.labelled_pairs import LabelledPair

SCORES = np.array([0.5, 0.9, 0.7, 0.6, 0.8])
SAME = np.array([False, True, False, True, True])


class HashEmbedder:
    """Embeds a text as a fixed random direction; texts with equal first words are near."""

    async def embed_documents(self, texts: Sequence[str], *, bulk: bool = False) -> Vectors:
        rows = []
        for text in texts:
            seed = sum(map(ord, text.split()[0]))
            row = np.random.default_rng(seed).standard_normal(16)
            row += 0.2 * np.random.default_rng(sum(map(ord, text))).standard_normal(16)
            rows.append(row / np.linalg.norm(row))
        return Vectors(np.array(rows, np.float32), "m", "digest")


def new_calibration() -> Calibration:
    return Calibration(HashEmbedder(), lambda: ThreadPoolExecutor(1))  # type: ignore[arg-type]


@pytest.mark.parametrize(("precision", "bound"), [(1.0, 0.8), (0.75, 0.6), (0.1, 0.5)])
def test_the_lowest_bound_that_keeps_a_precision(precision: float, bound: float) -> None:
    assert lowest_bound(SCORES, SAME, precision) == bound


def test_rejected_pairs_are_served_at_no_bound() -> None:
    assert lowest_bound(np.array([-2.0, -2.0]), np.array([True, True]), 0.5) is None


def test_equal_scores_are_served_together() -> None:
    bounds, served, correct = served_at(np.array([0.9, 0.5, 0.9]), np.array([True, True, False]))
    assert (bounds.tolist(), served.tolist(), correct.tolist()) == ([0.9, 0.5], [2, 3], [1, 2])


def test_bounds_are_measured_on_other_pairs() -> None:
    fit = np.array([0.9, 0.8, 0.7]), np.array([True, True, False])
    test = np.array([0.95, 0.85, 0.6, -2.0]), np.array([True, False, True, True])
    found = calibrate_bound(fit, test, 0.99)
    assert (found.bound, found.precision.value) == (0.8, 0.5)
    assert found.recall.value == pytest.approx(1 / 3)
    assert found.curve[0] == pytest.approx((0.6, 2 / 3, 3 / 4))
    none = calibrate_bound((np.array([0.5]), np.array([False])), test, 0.9)
    assert (none.bound, none.recall.value) == (None, 0)


def test_a_curve_needs_scores() -> None:
    nothing = np.array([-2.0, -2.0]), np.array([True, False])
    assert calibrate_bound(nothing, nothing, 0.9).curve == []


async def test_pairs_are_scored_as_the_cache_scores_them() -> None:
    words = "alpha bravo charlie delta echo foxtrot golf hotel india juliet".split()
    pairs = [LabelledPair(f"{word} is open?", f"{word} is it open?", True) for word in words]
    pairs += [
        LabelledPair(f"{one} has a door?", f"{other} has a window?", False)
        for one, other in itertools.pairwise(words)
    ]
    calibration = new_calibration()
    similarity, probability = await calibration.calibrate(pairs, 0.9)
    assert similarity.bound is not None
    assert 0.5 < similarity.bound < 1
    assert similarity.precision.value == 1
    assert similarity.recall.value > 0
    assert probability.bound is not None


@pytest.mark.parametrize(
    ("count", "precision", "reason"),
    [(5, 0.9, "TOO_FEW_PAIRS"), (0, 0.9, "TOO_FEW_PAIRS"), (5, 1.5, "BAD_PRECISION")],
)
async def test_bad_pairs_are_rejected(count: int, precision: float, reason: str) -> None:
    calibration = new_calibration()
    pairs = [LabelledPair(f"a{n}", f"b{n}", True) for n in range(count)]
    with pytest.raises(InvalidArgument) as caught:
        await calibration.calibrate(pairs, precision)
    assert caught.value.reason == reason


async def test_a_pair_that_occurs_twice_is_scored_once_and_counts_twice() -> None:
    words = "alpha bravo charlie delta echo foxtrot golf hotel".split()
    pairs = [LabelledPair(f"{word} is open?", f"{word} is it open?", True) for word in words]
    pairs += [LabelledPair(f"{word} is open?", f"who painted {word}?", False) for word in words]
    executor = CountingExecutor(1)
    calibration = Calibration(HashEmbedder(), lambda: executor)  # type: ignore[arg-type]
    once, _ = await calibration.calibrate(pairs, 0.5)
    assert executor.pairs == len(pairs)
    executor = CountingExecutor(1)
    twice, _ = await calibration.calibrate([*pairs, *pairs], 0.5)
    assert executor.pairs == len(pairs)
    assert twice.bound == once.bound
    assert twice.recall.high - twice.recall.low < once.recall.high - once.recall.low


class CountingExecutor(ThreadPoolExecutor):
    """Counts the pairs that it scores."""

    pairs = 0

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Any:
        self.pairs += len(arguments[0])
        return super().submit(function, *arguments, **options)


async def test_too_many_pairs_are_rejected_while_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.gateway.cache.calibration.MAX_PAIRS", 3)
    endless = itertools.repeat(LabelledPair("a", "b", True))
    with pytest.raises(InvalidArgument) as caught:
        await PairList().extend(endless)
    assert caught.value.reason == "TOO_MANY_PAIRS"


async def test_too_much_text_is_rejected_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.cache.calibration.MAX_CHARACTERS", 3)
    collected = PairList()
    await collected.extend([LabelledPair("a", "b", True)])
    with pytest.raises(InvalidArgument) as caught:
        await collected.extend([LabelledPair("c", "d", True)])
    assert caught.value.reason == "TOO_MANY_PAIRS"
    with pytest.raises(InvalidArgument) as caught:
        await PairList().extend([LabelledPair("", "b", True)])
    assert caught.value.reason == "EMPTY_PROMPT"


async def test_other_tasks_run_while_pairs_are_read() -> None:
    ticks: list[int] = []

    async def tick() -> None:
        while True:
            ticks.append(len(collected.pairs))
            await asyncio.sleep(0)

    collected = PairList()
    ticking = asyncio.create_task(tick())
    await collected.extend([LabelledPair("a", "b", True)] * (3 * PAIRS_PER_STEP))
    ticking.cancel()
    assert len(set(ticks)) >= 3
