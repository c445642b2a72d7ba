"""Fits how the verifier combines its two stages: ``python -m tools.train_verifier.second_stage``.

It runs after ``memetwin cache train`` and ``python -m tools.train_verifier.cross_encoder``. It adds
a logistic curve over both stages to the verifier's weights, and a table to their card.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from services.embedder.models.question_pairs import QuestionPairModel
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from services.gateway.cache.labelled_pairs import LabelledPair, distinct_texts
from services.gateway.cache.verifier.model import Judgement, Verifier, log_odds
from services.gateway.cache.verifier.pair_verifier import is_unsure
from tools.train_verifier import pairs
from tools.train_verifier.card import judgements, tables

_BATCH = 64
Array = NDArray[np.float64]


@dataclass
class Stages:
    """Both stages' results for pairs.

    Attributes:
        first: the judgements of the first stage.
        scores: the cross-encoder's scores, float64 [n].
        cosines: cosine similarities of the questions, float64 [n].
        same: whether they ask the same, bool [n].
    """

    first: list[Judgement]
    scores: Array
    cosines: Array
    same: NDArray[np.bool_]


@click.command()
@click.option("--pairs", "files", required=True, multiple=True,
              type=click.Path(exists=True, path_type=Path),
              help='File of JSON lines: {"a": …, "b": …, "duplicate": …}.')  # fmt: skip
@click.option("--weights", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder of verifier.npz and README.md.")  # fmt: skip
def fit(files: Sequence[Path], weights: Path) -> None:
    """Fit on the calibration part, and measure on the held-out part."""
    parts = pairs.split([pair for file in files for pair in pairs.read(file)])
    text_model, pair_model = (
        SentenceTransformerModel.load(DEFAULT_TEXT_MODEL),
        QuestionPairModel.load(),
    )
    verifier = Verifier.load(weights / "verifier.npz")
    calibration, held_out = (
        stages(part, verifier, text_model, pair_model)
        for part in (parts.calibration, parts.held_out)
    )
    write(weights, pair_model.info.digest, calibration, held_out)


def write(weights: Path, digest: str, calibration: Stages, held_out: Stages) -> None:
    """Add the curve to the weights in a folder, and the measurement to the card."""
    file, card = weights / "verifier.npz", weights / "README.md"
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    arrays |= {"pair_digest": np.array(digest), "pair_curve": curve(calibration)}
    np.savez_compressed(file, allow_pickle=False, **arrays)
    measured = measure(Verifier(arrays), held_out)
    text = card.read_text().partition("\n## With the cross-encoder\n")[0].rstrip()
    card.write_text(f"{text}\n\n## With the cross-encoder\n\n{measured}\n")
    click.echo(measured)


def curve(calibration: Stages) -> Array:
    """Fit the constant and the weights of log-odds, score and cosine, float64 [4]."""
    kept = np.array([is_unsure(judgement) for judgement in calibration.first])
    model = LogisticRegression(C=10.0, max_iter=1000)
    model.fit(_rows(calibration)[kept], calibration.same[kept])
    return np.concatenate([model.intercept_, model.coef_[0]])


def measure(verifier: Verifier, held_out: Stages) -> str:
    """Return tables of recall and calibration of both stages together."""
    probabilities = [
        verifier.refine(first, cosine, score).probability if is_unsure(first) else first.probability
        for first, score, cosine in zip(
            held_out.first, held_out.scores, held_out.cosines, strict=True
        )
    ]
    return tables(np.array(probabilities), held_out.cosines, held_out.same)


def stages(
    known: Sequence[LabelledPair],
    verifier: Verifier,
    text_model: SentenceTransformerModel,
    pair_model: QuestionPairModel,
) -> Stages:
    """Judge pairs with both stages."""
    texts = distinct_texts(known)
    vectors = dict(zip(texts, _encode(text_model, texts, "query"), strict=True))
    one = np.stack([vectors[pair.one] for pair in known])
    other = np.stack([vectors[pair.other] for pair in known])
    return Stages(
        judgements(verifier, known, one, other, text_model.info.digest),
        _encode(pair_model, [(pair.one, pair.other) for pair in known], "")[:, 0],
        (one * other).sum(1),
        np.array([pair.same for pair in known]),
    )


def _rows(found: Stages) -> Array:
    odds = [log_odds(judgement.probability) for judgement in found.first]
    return np.stack([np.array(odds), found.scores, found.cosines], 1)


def _encode(model: Any, contents: Sequence[Any], task: str) -> Array:
    prepared = model.prepare(contents, task)
    order = sorted(range(len(prepared)), key=lambda place: prepared[place].cost)
    rows = np.empty((len(prepared), model.info.dimensions))
    for first in range(0, len(order), _BATCH):
        batch = order[first : first + _BATCH]
        rows[batch] = model.encode([prepared[place] for place in batch])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) if task else rows


if __name__ == "__main__":
    fit()
