"""Measures how well the verifier recognises questions that ask the same, and contradictions."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.embedder.models.question_pairs import QuestionPairModel
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from services.gateway.cache.labelled_pairs import LabelledPair, distinct_texts
from services.gateway.cache.verifier.model import Verifier
from tools.train_verifier import opposites, pairs, second_stage
from tools.train_verifier.card import tables

OF_A_KIND = 300
# Antonyms that the verifier's vocabulary lacks.
UNLISTED = """ripe raw|sober drunk|tight loose|humid arid|smooth rough|noisy silent|genuine fake|guilty innocent
|brave cowardly|polite rude|generous stingy|sharp blunt|shallow deep|tame wild|urban rural|single married
|broken intact|sweet bitter|optional mandatory|vacant occupied|liquid solid|poisonous edible"""


def main() -> None:
    folder = Path(os.environ.get("MEMETWIN_TEST_DATA") or "../shared/data")
    files = [folder / name for name in ("question_pairs.jsonl", "question_pairs_2.jsonl")]
    held_out = pairs.split([pair for file in files for pair in pairs.read(file)]).held_out
    different = contradictions(folder) | generated(distinct_texts(held_out))
    both = Both(
        Verifier.load(), SentenceTransformerModel.load(DEFAULT_TEXT_MODEL), QuestionPairModel.load()
    )
    results = both.judge(held_out)
    same = np.array([pair.same for pair in held_out])
    print("Both stages:\n")
    print(tables(results.probabilities, results.cosines, same))
    print("\nThe first stage alone:\n")
    print(tables(results.first, results.cosines, same))
    print("\n| P-CHR AUC | both stages | first stage | cosine |\n|---|---|---|---|")
    areas = (results.probabilities, results.first, results.cosines)
    print("| | " + " | ".join(f"{precision_area(one, same):.3f}" for one in areas) + " |")
    print("\nServed at a minimum cosine, unless the verifier rejects the pair:\n")
    bounds = (0.8, 0.85, 0.9, 0.95)
    print("| of | pairs | " + " | ".join(f"≥ {bound}" for bound in bounds) + " |")
    print("|---|---|" + "---|" * len(bounds))
    duplicates = [pair for pair in held_out if pair.same]
    for name, rows in (different | {"duplicates near enough": duplicates}).items():
        results, shares = both.judge(rows), []
        for bound in bounds:
            near = results.cosines >= bound
            of = near.sum() if name == "duplicates near enough" else len(rows)
            accepted = (near & results.accepted).sum()
            shares.append(f"{accepted / max(of, 1):.1%} (alone {near.sum() / max(of, 1):.1%})")
        print(f"| {name} | {len(rows)} | {' | '.join(shares)} |")


@dataclass
class Results:
    """The probabilities of both stages and of the first, the cosines, and what is accepted."""

    probabilities: np.ndarray
    first: np.ndarray
    cosines: np.ndarray
    accepted: np.ndarray


@dataclass
class Both:
    verifier: Verifier
    text_model: SentenceTransformerModel
    pair_model: QuestionPairModel

    def judge(self, rows: Sequence[LabelledPair]) -> Results:
        """Judge pairs as the gateway does."""
        found = second_stage.stages(rows, self.verifier, self.text_model, self.pair_model)
        judged = second_stage.judged(self.verifier, found)
        return Results(
            np.array([one.probability for one in judged]),
            np.array([one.probability for one in found.first]),
            found.cosines,
            np.array([not one.rejected for one in judged]),
        )


def precision_area(scores: np.ndarray, same: np.ndarray) -> float:
    """The area under precision over hit ratio, the share of pairs that are served."""
    ranked = same[np.argsort(-scores, kind="stable")]
    return float((ranked.cumsum() / np.arange(1, len(ranked) + 1)).mean())


def contradictions(folder: Path) -> dict[str, list[LabelledPair]]:
    lines = (folder / "sentence_entailment.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["label"] == "contradiction"]
    return {"contradictions (SICK)": [LabelledPair(row["a"], row["b"], False) for row in rows]}


def generated(texts: Sequence[str]) -> dict[str, list[LabelledPair]]:
    found = {
        f"generated: {name}": [
            LabelledPair(one, other, False)
            for one, other in opposites.generate(texts, transform, OF_A_KIND, 2)
        ]
        for name, transform in opposites.CONTRADICTIONS.items()
    }
    words = dict(pair.split() for pair in UNLISTED.replace("\n", "").split("|"))
    frames = (
        "Is the {} kind better for beginners?",
        "How do I find {} ones near me?",
        "Why are they so {}?",
    )
    found["generated: unlisted antonyms"] = [
        LabelledPair(frame.format(one), frame.format(other), False)
        for one, other in words.items()
        for frame in frames
    ]
    return found


if __name__ == "__main__":
    main()
