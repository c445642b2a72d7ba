"""``memetwin train --pairs``: a text model and pairs of texts in, a better model in a folder out.

It keeps some pairs out, teaches the model the rest (sentences.py), measures it on the held-out
pairs before and after, and writes it with a card that says all this.
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
from services.embedder.training import evaluation, text_pairs
from services.embedder.training.checkpoints import Checkpoint, digest
from services.embedder.training.evaluation import Recall
from services.embedder.training.task import CARD, CHECKPOINT, Task
from services.embedder.training.text_losses import TextPairObjective
from services.embedder.training.text_pairs import Pair
from services.embedder.training.trainer import Descent

_MOST = 2000  # held-out pairs that are evaluated
_FIRST = """# {name}

A text model of sentence-transformers, fine-tuned from `{base}`. Digest `{digest}`.
The embedder serves it: `MEMETWIN_TEXT_MODEL=FOLDER`.
"""
_METHOD = "by ranking each text's own above all others of its batch (MultipleNegativesRankingLoss)"
_LABELLED = " and pairs that belong together above those that do not (CoSENTLoss)"


@dataclass(frozen=True)
class Figures:
    """How good a model is on pairs.

    Attributes:
        recall: of texts that look for their own among all held-out second texts.
        precision: average precision of the cosine at telling pairs that belong together.
    """

    recall: Recall
    precision: float


def train(task: Task, base: str) -> str:
    """Fine-tune a text model and return its card.

    Raises:
        ValueError: the pairs, the model or a checkpoint are not usable.
    """
    rows = text_pairs.read(task.data)
    seen, unseen = text_pairs.split(rows, task.hold_out)
    if len(seen) < 2:  # noqa: PLR2004 - a text finds its own among at least another
        raise ValueError("training needs at least two pairs to learn from")
    click.echo(f"training on {len(seen)} pairs, {len(unseen)} held out")
    try:
        model, origin = load_sentence_transformer(base)
    except ModelLoadError as error:
        raise ValueError(str(error)) from error
    before = measure(model, unseen)
    lesson = TextPairObjective(model, seen, unseen, task.plan.seed)
    identity = task.identity() | {"model": origin, "data": digest([task.data.read_bytes()])}
    checkpoint = Checkpoint(task.out / CHECKPOINT, identity)
    descent = Descent(lesson, task.plan, checkpoint)
    task.say_where(descent.progress)
    progress = descent.run()
    model.save(str(task.out), create_model_card=False)
    labelled = "" if all(pair.same for pair in rows) else _LABELLED
    name = task.out.resolve().name
    card = "\n".join([
        _FIRST.format(name=name, base=base, digest=model_digest(str(task.out), model)),
        task.data_section("pairs", len(seen), len(unseen), "groups of pairs that share texts"),
        task.training_section(_METHOD + labelled, progress),
        _figures(unseen, before, measure(model, unseen)),
        task.licence_section(
            f"They began as those of `{base}` (digest `{origin[:16]}`), whose licence goes on to"
            " hold; the texts belong to their owners and are no part of them."
        ),
    ])  # fmt: skip
    (task.out / CARD).write_text(card)
    checkpoint.remove()
    return card


def measure(model: Any, rows: Sequence[Pair]) -> Figures | None:
    """Measure a model on pairs; None if there are too few.

    Where no pair is labelled false, the texts of one pair and the next are taken for such.
    """
    rows = rows[:_MOST]
    same = np.array([pair.same for pair in rows])
    if len(rows) < 2 or not same.any():  # noqa: PLR2004 - one alone is always found
        return None
    options = {"normalize_embeddings": True, "show_progress_bar": False}
    a = model.encode_query([pair.a for pair in rows], **options)
    b = model.encode_document([pair.b for pair in rows], **options)
    group = text_pairs.groups_of_texts([pair for pair in rows if pair.same])
    order = (-a[same] @ b.T + 4 * _equal(rows, same)).argsort(1, kind="stable")[:, :5]
    right_group = np.array([group.get(pair.b, -1) for pair in rows])[order]
    found = right_group == np.array([group[pair.a] for pair in rows if pair.same])[:, None]
    cosines, right = (a * b).sum(1), same
    if same.all():
        cosines = np.concatenate([cosines, (a * np.roll(b, 1, 0)).sum(1)])
        right = np.concatenate([same, np.zeros_like(same)])
    return Figures(evaluation.recall(found), float(average_precision_score(right, cosines)))


def _equal(rows: Sequence[Pair], same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say which second texts are the very text that looks: it shall find another."""
    one, other = np.array([pair.a for pair in rows])[same], np.array([pair.b for pair in rows])
    equal: NDArray[np.bool_] = one[:, None] == other
    return equal


def _figures(unseen: Sequence[Pair], before: Figures | None, after: Figures | None) -> str:
    if before is None or after is None:
        return "## Figures\n\nNothing was held out, so nothing is known.\n"
    rows = [
        ("recall@1", before.recall.at_1, after.recall.at_1),
        ("recall@5", before.recall.at_5, after.recall.at_5),
        ("average precision of the cosine", before.precision, after.precision),
    ]
    lines = [
        "## Figures\n",
        f"On {min(len(unseen), _MOST)} held-out pairs, none of whose texts was learned from:\n",
        "| | before | after |\n|---|---|---|",
        *(f"| {name} | {old:.1%} | {new:.1%} |" for name, old, new in rows),
    ]
    return "\n".join([*lines, ""])
