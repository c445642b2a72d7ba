"""Customer questions as a stream: wrong hits under a budget, and hits beside the published rule's.

Questions of one intent have one answer. Our side is the code that the gateway decides with; it
learns from the answers to what it did not serve, and of hits from those that it asks again, which
count as calls of the model, not as hits. The published rule learns for each entry alone; it is
swept, and its hits are interpolated at our error.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from services.gateway.cache.error_budget.candidates import Candidate, look
from services.gateway.cache.error_budget.policy import Budget
from services.gateway.cache.index import NEIGHBOURHOOD
from services.gateway.cache.types import Observation
from services.gateway.cache.verifier.features import Text
from services.gateway.cache.verifier.model import Side, Verifier
from tests.bench.published_rule import Observed
from tests.bench.verifier import embed

BUDGETS = (0.01, 0.02, 0.05)
DELTAS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
SEEDS = 5


@dataclass(frozen=True)
class Outcome:
    """Shares of all requests: hits, wrong answers, hits asked again (which are no hits)."""

    hits: float
    wrong: float
    again: float

    @property
    def per_hit(self) -> float:
        return self.wrong / max(self.hits + self.again, 1e-9)


class Stream:
    """The questions in the order of a seed, and what was kept of them."""

    def __init__(self, sides: Sequence[Side], answers: Sequence[str], seed: int) -> None:
        self.dice = np.random.default_rng(seed)
        order = self.dice.permutation(len(sides))
        self.sides = [sides[place] for place in order]
        self.answers = [answers[place] for place in order]
        vectors = [side.vector for side in self.sides if side.vector is not None]
        self._vectors = np.stack(vectors)
        self._rows = np.empty_like(self._vectors)
        self.kept: list[int] = []

    def keep(self, place: int) -> None:
        self._rows[len(self.kept)] = self._vectors[place]
        self.kept.append(place)

    def near(self, place: int, count: int) -> list[tuple[int, float]]:
        """Return where the nearest kept questions are, and their cosines."""
        cosines = self._rows[: len(self.kept)] @ self._vectors[place]
        count = min(count, len(cosines))
        top: Iterable[int] = np.argpartition(-cosines, count - 1)[:count] if count else []
        ranked = sorted(top, key=lambda one: -cosines[one])
        return [(self.kept[one], float(cosines[one])) for one in ranked]


def ours(stream: Stream, rate: float) -> Outcome:
    budget, verifier = Budget(), Verifier.load()
    hits = wrong = again = 0
    for place, (asked, answer) in enumerate(zip(stream.sides, stream.answers, strict=True)):
        found = [
            Candidate(stream.sides[one], cosine, stream.answers[one])
            for one, cosine in stream.near(place, NEIGHBOURHOOD)
        ]
        seen = look(budget, verifier, asked, found)
        if seen:
            right = found[seen[0]].answer == answer
            probability, share = budget.probability(seen[1]), 1.0
            served = probability >= budget.bound(rate)
            if served:
                wrong += not right
                share = budget.sampling()
                if stream.dice.random() >= share:
                    hits += 1
                    continue
                again += 1
            label = Observation(seen[1], right, served, 1 / share, probability, answer)
            budget.add([label])
        stream.keep(place)
    total = len(stream.sides)
    return Outcome(hits / total, wrong / total, again / total)


def published(stream: Stream, delta: float) -> Outcome:
    entries: dict[int, Observed] = {}
    hits = wrong = 0
    for place, answer in enumerate(stream.answers):
        right = False
        for nearest, cosine in stream.near(place, 1):
            right, rounded = stream.answers[nearest] == answer, round(cosine, 3)
            if not entries[nearest].asks(rounded, delta, stream.dice.random()):
                hits, wrong = hits + 1, wrong + (not right)
                break
            entries[nearest].add(rounded, right)
        else:
            if not right:
                entries[place] = Observed()
                stream.keep(place)
    total = len(stream.answers)
    return Outcome(hits / total, wrong / total, 0.0)


def run(rule: str, seed: int, bound: float) -> Outcome:
    stream = Stream(*_DATA, seed)
    return ours(stream, bound) if rule == "ours" else published(stream, bound)


_DATA: tuple[Sequence[Side], Sequence[str]] = ((), ())


def load() -> tuple[Sequence[Side], Sequence[str]]:
    folder = Path(os.environ.get("MEMETWIN_TEST_DATA") or "../shared/data")
    rows = [json.loads(line) for line in (folder / "banking77.jsonl").read_text().splitlines()]
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL)
    vectors = embed(model, [row["text"] for row in rows])
    sides = [
        Side(Text(row["text"]), vector, model.info.digest)
        for row, vector in zip(rows, vectors, strict=True)
    ]
    return sides, [row["intent"] for row in rows]


def begin(data: tuple[Sequence[Side], Sequence[str]]) -> None:
    global _DATA  # noqa: PLW0603 - once in each process, rather than with every piece of work
    _DATA = data


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    fresh = multiprocessing.get_context("spawn")  # which heed the number of threads
    with ProcessPoolExecutor(2, fresh, initializer=begin, initargs=(load(),)) as pool:
        tasks = {
            (rule, seed, bound): pool.submit(run, rule, seed, bound)
            for rule, bounds in (("ours", BUDGETS), ("published", DELTAS))
            for bound in bounds
            for seed in seeds
        }
        done = {name: task.result() for name, task in tasks.items()}
    print(f"{len(seeds)} shuffles; mean and least to greatest.\n")
    print("| budget | error | per hit | hits | asked again | published rule's hits | ratio |")
    print("|---|---|---|---|---|---|---|")
    for rate in BUDGETS:
        rows = [done["ours", seed, rate] for seed in seeds]
        curves = [[done["published", seed, delta] for delta in DELTAS] for seed in seeds]
        theirs = [hits_at(row.wrong, curve) for row, curve in zip(rows, curves, strict=True)]
        cells = [
            spread(row.wrong for row in rows),
            spread(row.per_hit for row in rows),
            spread((row.hits for row in rows), 3),
            spread((row.again for row in rows), 3),
            spread(theirs, 3),
            spread((row.hits / hits for row, hits in zip(rows, theirs, strict=True)), 2),
        ]
        print(f"| {rate} | {' | '.join(cells)} |")
    print("\n| published rule, delta | error | per hit | hits |\n|---|---|---|---|")
    for delta in DELTAS:
        rows = [done["published", seed, delta] for seed in seeds]
        cells = [
            spread(row.wrong for row in rows),
            spread(row.per_hit for row in rows),
            spread((row.hits for row in rows), 3),
        ]
        print(f"| {delta} | {' | '.join(cells)} |")


def hits_at(error: float, curve: Sequence[Outcome]) -> float:
    """Return the hits of a swept rule at an error; beyond the sweep, those of its nearest end."""
    points = np.array(sorted((one.wrong, one.hits) for one in curve))
    return float(np.interp(error, points[:, 0], points[:, 1]))


def spread(values: Iterable[float], digits: int = 4) -> str:
    row = list(values)
    return f"{np.mean(row):.{digits}f} ({min(row):.{digits}f}–{max(row):.{digits}f})"


if __name__ == "__main__":
    main()
