"""Measures how well the cosine recognises equal questions, and fits the verifier's curve."""

import json
import os
from pathlib import Path

import numpy as np

from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    load_sentence_transformer,
)
from services.gateway.cache.verifier.features import contradiction
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import probability_from_cosine

PAIRS = 10_000


def main() -> None:
    folder = Path(os.environ.get("MEMETWIN_TEST_DATA") or "../shared/data")
    lines = (folder / "question_pairs.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines[:PAIRS]]
    encode = load_sentence_transformer(DEFAULT_TEXT_MODEL)[0].encode
    texts = [row[side] for side in "ab" for row in rows]
    vectors = encode(texts, batch_size=64, normalize_embeddings=True)
    cosines = (vectors[:PAIRS] * vectors[PAIRS:]).sum(1).astype(float)
    same = np.array([row["duplicate"] for row in rows], float)
    slope, middle = fit(cosines, same)
    print(f"{PAIRS} pairs: slope {slope:.2f}, middle {middle:.3f}\n")
    consistent = np.array(
        [not contradiction(LexicalText(row["a"]), LexicalText(row["b"])) for row in rows]
    )
    print("| cosine | pairs | ask the same | as estimated | not contradicted | of those the same |")
    print("|---|---|---|---|---|---|")
    for low in (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97):
        at = cosines >= low
        accepted = at & consistent
        estimate = np.mean([probability_from_cosine(value) for value in cosines[at]])
        print(
            f"| ≥ {low} | {at.sum()} | {same[at].mean():.3f} | {estimate:.3f} |"
            f" {accepted.sum()} | {same[accepted].mean():.3f} |"
        )


def fit(cosines: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """Fit a logistic curve by Newton's method; return its slope and where it crosses one half."""
    inputs = np.stack([np.ones_like(cosines), cosines], axis=1)
    weights = np.zeros(2)
    for _ in range(50):
        estimate = 1 / (1 + np.exp(-inputs @ weights))
        hessian = (inputs * (estimate * (1 - estimate))[:, None]).T @ inputs
        weights += np.linalg.solve(hessian, inputs.T @ (same - estimate))
    return float(weights[1]), float(-weights[0] / weights[1])


if __name__ == "__main__":
    main()
