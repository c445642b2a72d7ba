"""``memetwin train --pairs``: fine-tunes a text model on pairs of texts.

The pairs are split into training and held-out pairs. The model is trained (text_losses.py),
evaluated on the held-out pairs before and after, and written to a folder together with its card.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from services.embedder.models.model import ModelLoadError
from services.embedder.models.pretrained import model_digest
from services.embedder.models.sentence_transformer import load_sentence_transformer
from services.embedder.training import evaluation, model_card, text_pairs
from services.embedder.training.checkpoints import Checkpoint, content_digest
from services.embedder.training.evaluation import Recall
from services.embedder.training.job import (
    CARD_FILE,
    CHECKPOINT_FILE,
    TrainingJob,
    report_resumption,
)
from services.embedder.training.text_losses import TextPairObjective
from services.embedder.training.text_pairs import TextPair
from services.embedder.training.trainer import Trainer

_MAX_EVALUATED = 2000  # held-out pairs
_TITLE = """# {name}

A text model of sentence-transformers, fine-tuned from `{base}`. Digest `{digest}`.
To serve it, set `MEMETWIN_TEXT_MODEL=FOLDER` for the embedder.
"""
_METHOD = (
    "by ranking the other text of a pair above all others of the batch"
    " (MultipleNegativesRankingLoss)"
)
_LABELLED = ", and matching pairs above the others (CoSENTLoss)"


@dataclass(frozen=True)
class PairMetrics:
    """How well a model recognises matching texts.

    Attributes:
        recall: recall of the first texts as queries among all held-out second texts.
        average_precision: average precision of the cosine for matching pairs.
    """

    recall: Recall
    average_precision: float


def train(job: TrainingJob, base: str) -> str:
    """Fine-tune a text model and return its card.

    Args:
        job: the data, the output and the options.
        base: the model to start from, a name or a folder.

    Raises:
        ValueError: the pairs, the model or a checkpoint cannot be used.
    """
    pairs = text_pairs.read(job.data)
    train_set, held_out = _split(pairs, job.hold_out)
    model, base_digest = _load(base)
    before = evaluate(model, held_out)
    objective = TextPairObjective(model, train_set, held_out, job.config.seed)
    data_digest = content_digest([job.data.read_bytes()])
    identity = job.identity() | {"model": base_digest, "data": data_digest}
    checkpoint = Checkpoint(job.out / CHECKPOINT_FILE, identity)
    trainer = Trainer(objective, job.config, checkpoint)
    report_resumption(trainer.progress)
    progress = trainer.run()
    model.save(str(job.out), create_model_card=False)
    method = _METHOD + ("" if all(pair.matches for pair in pairs) else _LABELLED)
    name, unit = job.out.resolve().name, "groups of pairs that share texts"
    card = "\n".join([
        _TITLE.format(name=name, base=base, digest=model_digest(str(job.out), model)),
        model_card.data_section(job, "pairs", len(train_set), len(held_out), unit),
        model_card.training_section(job, method, progress),
        _figures(len(held_out), before, evaluate(model, held_out)),
        model_card.licence_section(
            f"They are derived from `{base}` (digest `{base_digest[:16]}`), whose licence still"
            f" applies. The texts are not part of the weights and belong to their owners."
        ),
    ])  # fmt: skip
    (job.out / CARD_FILE).write_text(card)
    checkpoint.remove()
    return card


def _split(pairs: Sequence[TextPair], hold_out: int) -> tuple[list[TextPair], list[TextPair]]:
    """Return the training pairs and the held-out pairs, and print how many there are."""
    train_set, held_out = text_pairs.split(pairs, hold_out)
    if len(train_set) < 2:  # noqa: PLR2004 - a text is ranked above at least one other
        raise ValueError("training needs at least two pairs that are not held out")
    click.echo(f"training on {len(train_set)} pairs, {len(held_out)} held out")
    if not can_evaluate(held_out):
        click.echo(
            "The model will not be evaluated: at least two pairs, one of them matching, must be"
            " held out. Use more pairs or a smaller --hold-out."
        )
    return train_set, held_out


def _load(base: str) -> tuple[Any, str]:
    try:
        return load_sentence_transformer(base)
    except ModelLoadError as error:
        raise ValueError(str(error)) from error


def can_evaluate(pairs: Sequence[TextPair]) -> bool:
    """Return whether there are enough pairs to evaluate a model; a single text is always found."""
    return len(pairs) > 1 and any(pair.matches for pair in pairs)


def evaluate(model: Any, pairs: Sequence[TextPair]) -> PairMetrics | None:
    """Evaluate a model on pairs; return None if there are too few.

    If every pair matches, the first text of a pair and the second text of the previous pair count
    as a pair that does not match.
    """
    pairs = pairs[:_MAX_EVALUATED]
    matches = np.array([pair.matches for pair in pairs])
    if not can_evaluate(pairs):
        return None
    options = {"normalize_embeddings": True, "show_progress_bar": False}
    a = model.encode_query([pair.a for pair in pairs], **options)
    b = model.encode_document([pair.b for pair in pairs], **options)
    group_of = text_pairs.groups_of_texts([pair for pair in pairs if pair.matches])
    # A query must find a text other than itself, so equal texts are ranked last.
    distances = -a[matches] @ b.T + 4 * _same_text(pairs, matches)
    order = distances.argsort(1, kind="stable")[:, :5]
    found_groups = np.array([group_of.get(pair.b, -1) for pair in pairs])[order]
    query_groups = np.array([group_of[pair.a] for pair in pairs if pair.matches])
    recall = evaluation.recall(found_groups == query_groups[:, None])
    cosines, labels = (a * b).sum(1), matches
    if matches.all():
        cosines = np.concatenate([cosines, (a * np.roll(b, 1, 0)).sum(1)])
        labels = np.concatenate([matches, np.zeros_like(matches)])
    return PairMetrics(recall, float(average_precision_score(labels, cosines)))


def _same_text(pairs: Sequence[TextPair], matches: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which second texts equal the query, bool [matching pairs, pairs]."""
    queries, documents = (
        np.array(texts) for texts in zip(*((p.a, p.b) for p in pairs), strict=True)
    )
    same: NDArray[np.bool_] = queries[matches][:, None] == documents
    return same


def _figures(count: int, before: PairMetrics | None, after: PairMetrics | None) -> str:
    if before is None or after is None:
        return model_card.no_figures("pairs", count)
    rows = [
        ("recall@1", before.recall.at_1, after.recall.at_1),
        ("recall@5", before.recall.at_5, after.recall.at_5),
        ("average precision of the cosine", before.average_precision, after.average_precision),
    ]
    lines = [
        "## Figures\n",
        f"On {min(count, _MAX_EVALUATED)} held-out pairs, which share no text with the training"
        " pairs:\n",
        "| | before | after |\n|---|---|---|",
        *(f"| {name} | {old:.1%} | {new:.1%} |" for name, old, new in rows),
    ]
    return "\n".join([*lines, ""])
