"""``memetwin train --pictures``: trains an image network on a folder of images.

The images are split into training and held-out images. The network is trained with or without
labels (classification.py, contrastive.py), evaluated on the held-out images, drawn
(feature_maps.py) and written to a folder together with its card.
"""

import dataclasses
from pathlib import Path

import click
import numpy as np

from services.embedder.decoding import images
from services.embedder.models import architecture as architectures
from services.embedder.models.architecture import Architecture
from services.embedder.models.network import Network
from services.embedder.training import evaluation, feature_maps, image_dataset, model_card
from services.embedder.training.checkpoints import Checkpoint, content_digest
from services.embedder.training.classification import ClassificationObjective
from services.embedder.training.contrastive import ContrastiveObjective
from services.embedder.training.image_dataset import ImageDataset
from services.embedder.training.job import (
    CARD_FILE,
    CHECKPOINT_FILE,
    TrainingJob,
    report_resumption,
)
from services.embedder.training.trainer import Trainer

_MAX_EDITED = 1000  # number of held-out images that are edited for the evaluation
_MAX_LABELS_SHOWN = 10
_TITLE = """# {network.name}

An image network with an input of {network.side} x {network.side} pixels and vectors of
{network.dimensions} dimensions. Its layers are declared in `architecture.json`. Digest
`{network.digest}`.
To serve it, set `MEMETWIN_IMAGE_MODEL=FOLDER` for the embedder.
"""
_METHODS = {
    ContrastiveObjective: "without labels, by contrasting augmented views of images (NT-Xent)",
    ClassificationObjective: "on labels, the names of sub-folders (cross-entropy over cosines)",
}


def train(job: TrainingJob, architecture: Path, *, labelled: bool | None) -> str:
    """Train an image network and return its card.

    Args:
        job: the data, the output and the options.
        architecture: the file that declares the network.
        labelled: see ``image_dataset.read``.

    Raises:
        ValueError: the declaration, the images or a checkpoint cannot be used.
    """
    declared = architectures.parse(architecture.read_text())
    declared = dataclasses.replace(declared, name=job.out.resolve().name)
    dataset = _read(job.data, declared.side, labelled)
    train_set, held_out = image_dataset.split(dataset, job.hold_out)
    if len(train_set) < 2:  # noqa: PLR2004 - contrast needs another image
        raise ValueError("training needs at least two readable images that are not held out")
    click.echo(f"training on {len(train_set)} images, {len(held_out)} held out")
    kind = ClassificationObjective if dataset.labels[0] else ContrastiveObjective
    objective = kind(declared, train_set, held_out, job.config.seed)
    checkpoint = Checkpoint(job.out / CHECKPOINT_FILE, _identity(job, declared, dataset))
    trainer = Trainer(objective, job.config, checkpoint)
    report_resumption(trainer.progress)
    progress = trainer.run()
    objective.network().save(job.out)
    network = Network.load(job.out)  # as it is served, with the rounding of the stored weights
    unit = "images of a label, by name" if dataset.labels[0] else "images, by name"
    card = "\n".join([
        _TITLE.format(network=network),
        model_card.data_section(job, "images", len(train_set), len(held_out), unit),
        model_card.training_section(job, _METHODS[kind], progress),
        _figures(job, network, objective, train_set, held_out),
        _draw(job, network, held_out if len(held_out) else train_set),
        model_card.licence_section("The images are not part of it and belong to their owners."),
    ])  # fmt: skip
    (job.out / CARD_FILE).write_text(card)
    checkpoint.remove()
    return card


def _read(folder: Path, side: int, labelled: bool | None) -> ImageDataset:
    dataset, problems = image_dataset.read(folder, side, labelled=labelled)
    for problem in problems:
        click.echo(f"skipped: {problem}", err=True)
    labels = sorted(set(dataset.labels) - {""})
    if labels:
        shown = ", ".join(labels[:_MAX_LABELS_SHOWN])
        more = ", …" if len(labels) > _MAX_LABELS_SHOWN else ""
        click.echo(f"supervised: {len(labels)} labels, the sub-folders {shown}{more}")
    else:
        click.echo("self-supervised: no labels")
    return dataset


def _identity(job: TrainingJob, declared: Architecture, dataset: ImageDataset) -> dict[str, str]:
    names = "\n".join(
        f"{name}\t{label}" for name, label in zip(dataset.names, dataset.labels, strict=True)
    )
    return job.identity() | {
        "architecture": content_digest([declared.to_json().encode()]),
        "data": content_digest([names.encode(), dataset.pixels.tobytes()]),
    }


def _figures(
    job: TrainingJob,
    network: Network,
    objective: ClassificationObjective | ContrastiveObjective,
    train_set: ImageDataset,
    held_out: ImageDataset,
) -> str:
    if not len(held_out):
        return model_card.no_figures("images", 0)
    rows = np.linspace(0, len(held_out) - 1, min(len(held_out), _MAX_EDITED)).astype(int)
    files = [job.data / held_out.names[row] for row in np.unique(rows)]
    lines = [
        "## Figures\n",
        f"Each of {len(files)} held-out images is edited in six ways and saved as JPEG. Each",
        "edited image is a query for its original among all of them, by cosine:\n",
        "| edit | recall@1 | recall@5 |\n|---|---|---|",
        *(
            f"| {edit} | {recall.at_1:.1%} | {recall.at_5:.1%} |"
            for edit, recall in evaluation.recall_by_edit(network, files).items()
        ),
    ]
    if isinstance(objective, ClassificationObjective):
        recall = evaluation.recall_by_label(network, train_set, held_out)
        lines += [
            f"\nAccuracy on the labels of held-out images: {objective.accuracy():.1%}. Held-out",
            f"images whose nearest training image has their label: {recall.at_1:.1%}; one of the",
            f"five nearest: {recall.at_5:.1%}.",
        ]
    return "\n".join([*lines, ""])


def _draw(job: TrainingJob, network: Network, dataset: ImageDataset) -> str:
    """Draw the network with the first image of a dataset, and describe the drawings."""
    name = dataset.names[0]
    image = images.decode((job.data / name).read_bytes(), name)
    files = feature_maps.draw(network, image, job.out / "pictures")
    return (
        f"## Pictures\n\n`pictures/` has {len(files)} drawings: the filters of each convolution,"
        f" and the feature maps\nof `{name}`. `memetwin visualize` draws those for"
        " any other image.\n"
    )
