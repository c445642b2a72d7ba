"""Measures wrong hits in a stream of customer questions, under an error budget and the vCache rule.

Questions of one intent have one answer. Our side runs the gateway's policy with both stages of the
verifier. It learns from the model's answers to misses and to shadow requests; a hit with a shadow
request counts as a call to the model, not as a hit. The vCache rule learns separately for each entry. It is swept, and its hits
are interpolated at our error rate.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from services.gateway.cache.error_budget.candidates import Candidate, Requirements, choose_candidate
from services.gateway.cache.error_budget.policy import ErrorBudget
from services.gateway.cache.error_budget.types import Observation
from services.gateway.cache.index import BUDGET_CANDIDATES
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Question, Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier
from tests.bench.decisions import DATA
from tests.bench.published_rule import EntryRule
from tools.in_process_embedder import InProcessEmbedder

BUDGETS = (0.01, 0.02, 0.05)
DELTAS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
SEEDS = 5


@dataclass(frozen=True)
class Outcome:
    """Shares of all requests: hits, wrong answers, and shadow requests (which are not hits)."""

    hits: float
    wrong: float
    shadow: float

    @property
    def per_hit(self) -> float:
        return self.wrong / max(self.hits + self.shadow, 1e-9)


class Stream:
    """The questions, shuffled by a seed, and those that the cache holds so far."""

    def __init__(self, questions: Sequence[Question], answers: Sequence[str], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        order = self.rng.permutation(len(questions))
        self.questions = [questions[index] for index in order]
        self.answers = [answers[index] for index in order]
        vectors = [one.vector for one in self.questions if one.vector is not None]
        self._vectors = np.stack(vectors)
        self._rows = np.empty_like(self._vectors)
        self.stored: list[int] = []

    def store(self, index: int) -> None:
        self._rows[len(self.stored)] = self._vectors[index]
        self.stored.append(index)

    def nearest(self, index: int, count: int) -> list[tuple[int, float]]:
        """Return the indices of the nearest stored questions, and their cosines."""
        cosines = self._rows[: len(self.stored)] @ self._vectors[index]
        count = min(count, len(cosines))
        top: Iterable[int] = np.argpartition(-cosines, count - 1)[:count] if count else []
        ranked = sorted(top, key=lambda one: -cosines[one])
        return [(self.stored[one], float(cosines[one])) for one in ranked]


def ours(stream: Stream, rate: float) -> Outcome:
    budget, verifier = ErrorBudget(), PairVerifier(Verifier.load(), _EMBEDDERS[0])
    requirements = Requirements(max_error_rate=rate)
    hits = wrong = shadow = 0
    for index, (question, answer) in enumerate(zip(stream.questions, stream.answers, strict=True)):
        candidates = [
            Candidate(stream.questions[one], cosine, stream.answers[one])
            for one, cosine in stream.nearest(index, BUDGET_CANDIDATES)
        ]
        chosen = asyncio.run(choose_candidate(budget, verifier, question, candidates, requirements))
        if chosen:
            place, features = chosen
            budget.record_lookup(features)
            correct = candidates[place].answer_id == answer
            probability, share = budget.probability(features), 1.0
            served = probability >= budget.min_probability(rate)
            if served:
                wrong += not correct
                share = budget.shadow_rate()
                if stream.rng.random() >= share:
                    hits += 1
                    continue
                shadow += 1
            observation = Observation(features, correct, served, 1 / share, probability, answer)
            budget.add([observation])
        stream.store(index)
    total = len(stream.questions)
    return Outcome(hits / total, wrong / total, shadow / total)


def published(stream: Stream, delta: float) -> Outcome:
    entries: dict[int, EntryRule] = {}
    hits = wrong = 0
    for index, answer in enumerate(stream.answers):
        correct = False
        for nearest, cosine in stream.nearest(index, 1):
            correct, rounded = stream.answers[nearest] == answer, round(cosine, 3)
            if not entries[nearest].explores(rounded, delta, stream.rng.random()):
                hits, wrong = hits + 1, wrong + (not correct)
                break
            entries[nearest].add(rounded, correct)
        else:
            if not correct:
                entries[index] = EntryRule()
                stream.store(index)
    total = len(stream.answers)
    return Outcome(hits / total, wrong / total, 0.0)


def run(rule: str, seed: int, bound: float) -> Outcome:
    stream = Stream(*_DATA, seed)
    return ours(stream, bound) if rule == "ours" else published(stream, bound)


_DATA: tuple[Sequence[Question], Sequence[str]] = ((), ())
_EMBEDDERS: list[InProcessEmbedder] = []


def load() -> tuple[Sequence[Question], Sequence[str]]:
    lines = (DATA / "banking77.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    vectors = asyncio.run(InProcessEmbedder().embed_queries([row["text"] for row in rows]))
    questions = [
        Question(LexicalText(row["text"]), vector, vectors.digest)
        for row, vector in zip(rows, vectors.rows, strict=True)
    ]
    return questions, [row["intent"] for row in rows]


def begin(data: tuple[Sequence[Question], Sequence[str]]) -> None:
    global _DATA  # noqa: PLW0603 - once in each process, rather than with every piece of work
    _DATA = data
    _EMBEDDERS.append(InProcessEmbedder())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    spawn = multiprocessing.get_context("spawn")  # new processes read the environment
    with ProcessPoolExecutor(2, spawn, initializer=begin, initargs=(load(),)) as pool:
        tasks = {
            (rule, seed, bound): pool.submit(run, rule, seed, bound)
            for rule, bounds in (("ours", BUDGETS), ("published", DELTAS))
            for bound in bounds
            for seed in seeds
        }
        done = {name: task.result() for name, task in tasks.items()}
    print(f"{len(seeds)} shuffles; mean (minimum–maximum).\n")
    print(
        "| budget | error rate | per hit | worst per hit / budget | hits | shadow requests |"
        " vCache hits | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for rate in BUDGETS:
        rows = [done["ours", seed, rate] for seed in seeds]
        curves = [[done["published", seed, delta] for delta in DELTAS] for seed in seeds]
        theirs = [hits_at(row.wrong, curve) for row, curve in zip(rows, curves, strict=True)]
        cells = [
            spread(row.wrong for row in rows),
            spread(row.per_hit for row in rows),
            f"{max(row.per_hit for row in rows) / rate:.2f}",
            spread((row.hits for row in rows), 3),
            spread((row.shadow for row in rows), 3),
            spread(theirs, 3),
            spread((row.hits / hits for row, hits in zip(rows, theirs, strict=True)), 2),
        ]
        print(f"| {rate} | {' | '.join(cells)} |")
    print("\n| vCache, delta | error rate | per hit | hits |\n|---|---|---|---|")
    for delta in DELTAS:
        rows = [done["published", seed, delta] for seed in seeds]
        cells = [
            spread(row.wrong for row in rows),
            spread(row.per_hit for row in rows),
            spread((row.hits for row in rows), 3),
        ]
        print(f"| {delta} | {' | '.join(cells)} |")


def hits_at(error: float, curve: Sequence[Outcome]) -> float:
    """Return the hits of a swept rule at an error rate, or at the nearest end of the sweep."""
    points = np.array(sorted((one.wrong, one.hits) for one in curve))
    return float(np.interp(error, points[:, 0], points[:, 1]))


def spread(values: Iterable[float], digits: int = 4) -> str:
    row = list(values)
    return f"{np.mean(row):.{digits}f} ({min(row):.{digits}f}–{max(row):.{digits}f})"


if __name__ == "__main__":
    main()
