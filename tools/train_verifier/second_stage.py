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
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression

from services.embedder.models.question_pairs import QuestionPairModel
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from services.gateway.cache.labelled_pairs import LabelledPair, distinct_texts
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import (
    CENTROID_SCALE,
    Judgement,
    Question,
    Verifier,
    log_odds,
)
from services.gateway.cache.verifier.pair_verifier import is_unsure
from tools.train_verifier import pairs
from tools.train_verifier.card import judgements, tables

_BATCH = 64
TOPICS = 512
Array = NDArray[np.float64]


@dataclass
class Stages:
    """Both stages' results for pairs.

    Attributes:
        questions: the questions of each pair.
        first: the judgements of the first stage.
        scores: the cross-encoder's scores, float64 [n].
        cosines: cosine similarities of the questions, float64 [n].
        same: whether they ask the same, bool [n].
    """

    questions: list[tuple[Question, Question]]
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
    centroids = topics(encode(text_model, distinct_texts(parts.train), "query"))
    calibration, held_out = (
        stages(part, verifier, text_model, pair_model)
        for part in (parts.calibration, parts.held_out)
    )
    write(weights, pair_model.info.digest, centroids, calibration, held_out)


def write(
    weights: Path, digest: str, centroids: Array, calibration: Stages, held_out: Stages
) -> None:
    """Add the curve and the topics to the weights in a folder, and the measurement to the card.

    Args:
        weights: the folder.
        digest: digest of the cross-encoder.
        centroids: unit vectors of the training's topics, [n, dimensions].
        calibration: the pairs to fit.
        held_out: the pairs to measure.
    """
    file, card = weights / "verifier.npz", weights / "README.md"
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    arrays |= {
        "centroids": np.round(centroids * CENTROID_SCALE).astype(np.int8),
        "pair_digest": np.array(digest),
        "pair_curve": np.concatenate([_curve(calibration), [1.0, 0.0]]),
    }
    arrays["pair_curve"][4:] = _last_calibration(Verifier(arrays), calibration)
    np.savez_compressed(file, allow_pickle=False, **arrays)
    measured = tables(probabilities(Verifier(arrays), held_out), held_out.cosines, held_out.same)
    text = card.read_text().partition("\n## With the cross-encoder\n")[0].rstrip()
    card.write_text(f"{text}\n\n## With the cross-encoder\n\n{measured}\n")
    click.echo(measured)


def probabilities(verifier: Verifier, found: Stages) -> Array:
    """Return the probabilities of both stages together, as the gateway computes them."""
    return np.array([one.probability for one in judged(verifier, found)])


def judged(verifier: Verifier, found: Stages) -> list[Judgement]:
    """Return the judgements of both stages together, as the gateway makes them."""
    return [
        verifier.refine(first, *questions, cosine, score) if is_unsure(first) else first
        for questions, first, score, cosine in zip(
            found.questions, found.first, found.scores, found.cosines, strict=True
        )
    ]


def _curve(calibration: Stages) -> Array:
    """Fit the constant and the weights of log-odds, score and cosine, float64 [4]."""
    kept = np.array([is_unsure(judgement) for judgement in calibration.first])
    odds = [log_odds(judgement.probability) for judgement in calibration.first]
    rows = np.stack([np.array(odds), calibration.scores, calibration.cosines], 1)
    model = LogisticRegression(C=10.0, max_iter=1000).fit(rows[kept], calibration.same[kept])
    return np.concatenate([model.intercept_, model.coef_[0]])


def _last_calibration(verifier: Verifier, calibration: Stages) -> Array:
    """Fit the slope and the shift of the log-odds that heed the topics, float64 [2]."""
    rows = list(zip(calibration.questions, calibration.first, calibration.scores,
                    calibration.cosines, calibration.same, strict=True))  # fmt: skip
    odds, same = zip(*[
        (verifier.joint_odds(first, cosine, score, verifier.strangeness(*questions)), is_same)
        for questions, first, score, cosine, is_same in rows
        if is_unsure(first)
    ], strict=True)  # fmt: skip
    model = LogisticRegression(C=1e3, max_iter=1000).fit(np.array(odds)[:, None], np.array(same))
    return np.array([model.coef_[0, 0], model.intercept_[0]])


def stages(
    known: Sequence[LabelledPair],
    verifier: Verifier,
    text_model: SentenceTransformerModel,
    pair_model: QuestionPairModel,
) -> Stages:
    """Judge pairs with both stages."""
    texts = distinct_texts(known)
    vectors = dict(zip(texts, encode(text_model, texts, "query"), strict=True))
    one = np.stack([vectors[pair.one] for pair in known])
    other = np.stack([vectors[pair.other] for pair in known])
    digest = text_model.info.digest
    return Stages(
        [
            (
                Question(LexicalText(pair.one), left.astype(np.float32), digest),
                Question(LexicalText(pair.other), right.astype(np.float32), digest),
            )
            for pair, left, right in zip(known, one, other, strict=True)
        ],
        judgements(verifier, known, one, other, digest),
        encode(pair_model, [(pair.one, pair.other) for pair in known], "")[:, 0],
        (one * other).sum(1),
        np.array([pair.same for pair in known]),
    )


def topics(vectors: Array) -> Array:
    """Cluster unit vectors of questions; return unit centroids, [TOPICS, dimensions]."""
    clusters = MiniBatchKMeans(TOPICS, random_state=1, batch_size=4096, n_init=1, max_iter=20)
    centroids = clusters.fit(vectors).cluster_centers_
    return np.asarray(centroids / np.linalg.norm(centroids, axis=1, keepdims=True))


def encode(model: Any, contents: Sequence[Any], task: str) -> Array:
    """Return unit vectors for a task, or a cross-encoder's scores without one, [n, dimensions]."""
    prepared = model.prepare(contents, task)
    order = sorted(range(len(prepared)), key=lambda place: prepared[place].cost)
    rows = np.empty((len(prepared), model.info.dimensions))
    for first in range(0, len(order), _BATCH):
        batch = order[first : first + _BATCH]
        rows[batch] = model.encode([prepared[place] for place in batch])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) if task else rows


if __name__ == "__main__":
    fit()
