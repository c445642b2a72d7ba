"""Fits the prior of error budgets: ``python -m tools.fit_prior``.

It runs after ``python -m tools.train_verifier.second_stage``. It simulates caches of several kinds,
whose lookups come with labels, and fits how often the chosen candidate is correct. The caches for
the fit are made from the calibration part of the pairs and from half of the intents, those for the
measurement from the held-out part and the other half.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from services.gateway.cache.error_budget.candidates import Candidate, choose_candidate
from services.gateway.cache.error_budget.policy import ErrorBudget
from services.gateway.cache.error_budget.prior import FEATURES, Prior, design
from services.gateway.cache.index import BUDGET_CANDIDATES
from services.gateway.cache.labelled_pairs import LabelledPair, component_representatives
from services.gateway.cache.types import CandidateFeatures
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Question, Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier
from tools.in_process_embedder import InProcessEmbedder
from tools.train_verifier import pairs, strata

SCORES = 400  # quantiles
RATES = 0.01, 0.03, 0.05
Array = NDArray[np.float64]
Labelled = Sequence[tuple[str, str]]  # questions and their answers


@dataclass(frozen=True)
class SimulatedCache:
    """What a cache holds, and what it is asked.

    Attributes:
        name: of its kind.
        stored: the cached questions with their answers.
        asked: the lookups' questions with their answers.
        weight: how much all its lookups count in the fit.
        alone: whether each stored question is the only entry of a cache, which is asked the
            question at the same place.
    """

    name: str
    stored: Labelled
    asked: Labelled
    weight: float = 1.0
    alone: bool = False


@dataclass(frozen=True)
class Lookups:
    """The lookups of a simulated cache that found a candidate.

    Attributes:
        cache: the cache.
        features: of the candidates, in the order of the lookups.
        correct: whether each candidate's answer is right.
    """

    cache: SimulatedCache
    features: list[CandidateFeatures]
    correct: NDArray[np.bool_]


def caches_of_pairs(known: Sequence[LabelledPair], seed: int) -> list[SimulatedCache]:
    """Make caches of duplicates that hold or lack the answers, and one of random questions."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    groups = component_representatives([pair for pair in known if pair.same])
    same = [pair for pair in known if pair.same]
    rng.shuffle(same)
    texts = sorted({text for pair in known for text in (pair.one, pair.other)})
    rng.shuffle(texts)

    def label(text: str) -> tuple[str, str]:
        return text, groups.get(text, text)

    size = min(1000, len(same) // 3)
    stored = [label(pair.one) for pair in same[:size]]
    present = [label(pair.other) for pair in same[:size]]
    answers = {answer for _, answer in stored}
    absent = [label(pair.other) for pair in same[size:] if groups[pair.other] not in answers]
    half = present[: size // 2] + absent[: size // 2]
    few = present[: size // 10] + absent[: size - size // 10]
    for asked in (half, few):
        rng.shuffle(asked)
    middle = len(texts) // 2
    entries, rest = [*map(label, texts[:middle])], [*map(label, texts[middle:][:1500])]
    return [
        SimulatedCache("duplicates, all present", stored, present, 2),
        SimulatedCache("duplicates, half present", stored, half),
        SimulatedCache("duplicates, a tenth present", stored, few),
        SimulatedCache("random questions", entries, rest),
        single_entries("single entries", rng.sample(list(known), min(1000, len(known)))),
    ]


def caches_of_look_alikes(part: strata.Part) -> list[SimulatedCache]:
    """Make caches of one entry that are asked a look-alike or a paraphrase."""
    kinds = strata.KINDS
    different = [pair for kind in kinds for pair in strata.look_alikes(part, kind, 100)]
    same = [pair for kind in kinds for pair in strata.paraphrases(part, kind, 50)]
    return [single_entries("single entries, look-alikes", [*different, *same])]


def single_entries(name: str, known: Sequence[LabelledPair]) -> SimulatedCache:
    """Make a cache of one entry for each pair, which is asked the other question of the pair."""
    asked = [(pair.other, pair.one if pair.same else pair.other) for pair in known]
    return SimulatedCache(name, [(pair.one, pair.one) for pair in known], asked, alone=True)


def caches_of_intents(rows: Labelled, seed: int) -> list[SimulatedCache]:
    """Make caches of questions with few answers, one of which lacks half of the answers."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    rows = list(rows)
    rng.shuffle(rows)
    known = set(sorted({answer for _, answer in rows})[::2])
    part = [row for row in rows if row[1] in known]
    others = [row for row in rows if row[1] not in known]
    open_questions = part[500:900] + others[:400]
    rng.shuffle(open_questions)
    return [
        SimulatedCache("intents, 100 entries", rows[:100], rows[100:800], 0.5),
        SimulatedCache("intents, 500 entries", rows[:500], rows[500:1200], 0.5),
        SimulatedCache("intents, half present", part[:500], open_questions),
    ]


async def look_up(cache: SimulatedCache, embedder: InProcessEmbedder) -> Lookups:
    """Choose the candidate of each lookup as the gateway does."""
    verifier, budget = PairVerifier(Verifier.load(), embedder), ErrorBudget()
    stored, rows = await _questions(cache.stored, embedder)
    asked, vectors = await _questions(cache.asked, embedder)
    features, correct = [], []
    for number, (_, answer) in enumerate(cache.asked):
        cosines = rows @ vectors[number]
        nearest = np.argsort(-cosines, kind="stable")[:BUDGET_CANDIDATES]
        candidates = [
            Candidate(stored[place], float(cosines[place]), cache.stored[place][1])
            for place in ([number] if cache.alone else nearest)
        ]
        chosen = await choose_candidate(budget, verifier, asked[number], candidates)
        if chosen:
            features.append(chosen[1])
            correct.append(candidates[chosen[0]].answer_id == answer)
    return Lookups(cache, features, np.array(correct))


async def _questions(
    known: Labelled, embedder: InProcessEmbedder
) -> tuple[list[Question], NDArray[np.float32]]:
    texts = [text for text, _ in known]
    vectors = await embedder.embed_queries(texts)
    questions = [
        Question(LexicalText(text), row, vectors.digest)
        for text, row in zip(texts, vectors.rows, strict=True)
    ]
    return questions, vectors.rows


def fit(measured: Sequence[Lookups]) -> Prior:
    """Fit a prior to lookups of several caches."""
    rows = np.concatenate([_design(lookups) for lookups in measured])
    correct = np.concatenate([lookups.correct for lookups in measured])
    weight = np.concatenate(
        [
            np.full(len(lookups.correct), lookups.cache.weight / len(lookups.correct))
            for lookups in measured
        ]
    )
    weight *= len(weight) / weight.sum()
    fitted = [place for place, name in enumerate(FEATURES) if name not in ("one", "record")]
    model = LogisticRegression(max_iter=2000).fit(rows[:, fitted], correct, weight)
    weights = np.zeros(len(FEATURES))
    weights[fitted] = model.coef_[0]
    weights[FEATURES.index("one")] = model.intercept_[0]
    weights[FEATURES.index("record")] = 1.0  # a cold cache has no record
    scores = rows @ weights
    order = np.argsort(scores)
    ranks = np.cumsum(weight[order]) / weight.sum()
    quantiles = np.interp((np.arange(SCORES) + 0.5) / SCORES, ranks, scores[order])
    return Prior(weights, float(np.average(correct, weights=weight)), quantiles)


def _design(lookups: Lookups) -> Array:
    return design([features.values for features in lookups.features])


def simulate(prior: Prior, lookups: Lookups, rate: float) -> tuple[float, float]:
    """Return the shares of right answers and of wrong hits when a cache learns no outcome.

    The first is a share of all lookups, the second a share of the hits.
    """
    budget, hits, wrong = ErrorBudget(prior), 0, 0
    for features, correct in zip(lookups.features, lookups.correct, strict=True):
        budget.record_lookup(features)
        if budget.probability(features) >= budget.min_probability(rate):
            hits += 1
            wrong += not correct
    return (hits - wrong) / len(lookups.cache.asked), wrong / max(hits, 1)


def table(prior: Prior, measured: Sequence[Lookups]) -> str:
    """Return a Markdown table of simulated caches."""
    lines = [
        f"| cache | entries | lookups | {' | '.join(f'right, wrong at {one}' for one in RATES)} |",
        "|---|---|---|" + "---|" * len(RATES),
    ]
    for lookups in measured:
        cache = lookups.cache
        cells = ["{:.3f}, {:.3f}".format(*simulate(prior, lookups, rate)) for rate in RATES]
        counts = f"{len(cache.stored):,} | {len(cache.asked):,}"
        lines.append(f"| {cache.name} | {counts} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write(folder: Path, prior: Prior, measured: str) -> None:
    """Write a prior, and the measurement into its card."""
    data = {
        "weights": dict(zip(FEATURES, prior.weights.tolist(), strict=True)),
        "base_rate": prior.base_rate,
        "scores": np.round(prior.scores, 3).tolist(),
    }
    (folder / "prior.json").write_text(json.dumps(data) + "\n")
    card = folder / "README.md"
    text = card.read_text().partition("\n| cache |")[0].rstrip()
    card.write_text(f"{text}\n\n{measured}\n")


@click.command()
@click.option("--pairs", "files", required=True, multiple=True,
              type=click.Path(exists=True, path_type=Path),
              help='File of JSON lines: {"a": …, "b": …, "duplicate": …}.')  # fmt: skip
@click.option("--intents", required=True, type=click.Path(exists=True, path_type=Path),
              help='File of JSON lines: {"text": …, "intent": …}.')  # fmt: skip
@click.option("--out", required=True, type=click.Path(exists=True, path_type=Path),
              help="Folder of prior.json and its card, README.md.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True)
def main(files: Sequence[Path], intents: Path, out: Path, seed: int) -> None:
    """Fit the prior, and measure it on other questions."""
    parts = pairs.split([pair for file in files for pair in pairs.read(file)])
    lines = [json.loads(line) for line in intents.read_text().splitlines()]
    names = sorted({line["intent"] for line in lines})
    halves = [
        [(line["text"], line["intent"]) for line in lines if line["intent"] in names[first::2]]
        for first in (0, 1)
    ]
    embedder = InProcessEmbedder()
    for_fit = [
        *caches_of_pairs(parts.calibration, seed),
        *caches_of_intents(halves[0], seed),
        *caches_of_look_alikes("training"),
    ]
    others = [
        *caches_of_pairs(parts.held_out, seed),
        *caches_of_intents(halves[1], seed),
        *caches_of_look_alikes("held_out"),
    ]
    prior = fit([asyncio.run(look_up(cache, embedder)) for cache in for_fit])
    measured = table(prior, [asyncio.run(look_up(cache, embedder)) for cache in others])
    click.echo(measured)
    write(out, prior, measured)


if __name__ == "__main__":
    main()
