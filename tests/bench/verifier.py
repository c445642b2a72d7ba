"""Measures how well the verifier recognises questions that ask the same, and contradictions."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from services.gateway.cache.labelled_pairs import LabelledPair, distinct_texts
from services.gateway.cache.verifier.model import Verifier
from tools.train_verifier import opposites, pairs
from tools.train_verifier.card import judgements, tables

OF_A_KIND = 300
# Antonyms that the verifier's vocabulary lacks.
UNLISTED = """ripe raw|sober drunk|tight loose|humid arid|smooth rough|noisy silent|genuine fake|guilty innocent
|brave cowardly|polite rude|generous stingy|sharp blunt|shallow deep|tame wild|urban rural|single married
|broken intact|sweet bitter|optional mandatory|vacant occupied|liquid solid|poisonous edible"""


def main() -> None:
    folder = Path(os.environ.get("MEMETWIN_TEST_DATA") or "../shared/data")
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL)
    held_out = pairs.split(pairs.read(folder / "question_pairs.jsonl")).held_out
    different = contradictions(folder) | generated(distinct_texts(held_out))
    everything = distinct_texts(
        [*held_out, *(pair for rows in different.values() for pair in rows)]
    )
    vectors = dict(zip(everything, embed(model, everything), strict=True))
    verifier = Verifier.load()
    scores, cosines, _ = score(verifier, held_out, vectors, model.info.digest)
    same = np.array([pair.same for pair in held_out])
    print(tables(scores, cosines, same))
    print("\nServed at a minimum cosine, unless the verifier rejects the pair:\n")
    bounds = (0.8, 0.85, 0.9, 0.95)
    print("| of | pairs | " + " | ".join(f"≥ {bound}" for bound in bounds) + " |")
    print("|---|---|" + "---|" * len(bounds))
    duplicates = [pair for pair in held_out if pair.same]
    for name, rows in (different | {"duplicates near enough": duplicates}).items():
        _, cosines, accepted = score(verifier, rows, vectors, model.info.digest)
        shares = []
        for bound in bounds:
            near = cosines >= bound
            of = near.sum() if name == "duplicates near enough" else len(rows)
            shares.append(
                f"{(near & accepted).sum() / max(of, 1):.1%} (alone {near.sum() / max(of, 1):.1%})"
            )
        print(f"| {name} | {len(rows)} | {' | '.join(shares)} |")


def score(
    verifier: Verifier, rows: Sequence[LabelledPair], vectors: dict[str, np.ndarray], digest: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The probability and the cosine of each pair, and whether the verifier accepts it."""
    one = np.stack([vectors[pair.one] for pair in rows])
    other = np.stack([vectors[pair.other] for pair in rows])
    judged = judgements(verifier, rows, one, other, digest)
    probability = np.array([judgement.probability for judgement in judged])
    accepted = np.array([not judgement.rejected for judgement in judged])
    return probability, (one * other).sum(1), accepted


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


def embed(model: SentenceTransformerModel, texts: Sequence[str]) -> np.ndarray:
    prepared = model.prepare(texts, "query")
    order = sorted(range(len(texts)), key=lambda place: prepared[place].cost)
    rows = np.empty((len(texts), model.info.dimensions), np.float32)
    for first in range(0, len(order), 128):
        batch = order[first : first + 128]
        rows[batch] = model.encode([prepared[place] for place in batch])
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


if __name__ == "__main__":
    main()
