"""``memetwin train --pictures``: a folder of pictures in, a network in a folder out.

It reads the pictures, keeps some out, teaches a network the rest (contrast.py without labels,
classes.py with), measures how well it finds the pictures that it has never seen, draws what it has
learned, and writes the network with a card that says all this.
"""

import dataclasses
from pathlib import Path

import click
import numpy as np

from services.embedder.decoding import images
from services.embedder.models import architecture as declared
from services.embedder.models.architecture import Architecture
from services.embedder.models.network import Network
from services.embedder.training import evaluation, feature_maps, image_dataset
from services.embedder.training.checkpoints import Checkpoint, digest
from services.embedder.training.classification import Classes
from services.embedder.training.contrastive import Contrast
from services.embedder.training.image_dataset import Album
from services.embedder.training.task import CARD, CHECKPOINT, Task
from services.embedder.training.trainer import Descent

_MOST = 1000  # held-out pictures that are edited: more would take long and tell little
_FIRST = """# {network.name}

An image network: {network.side} x {network.side} pixels in, {network.dimensions} numbers out; its
layers are declared in `architecture.json`. Digest `{network.digest}`.
The embedder serves it: `MEMETWIN_IMAGE_MODEL=FOLDER`.
"""
_METHOD = {
    Contrast: "without labels, by contrast between changed views of a picture (NT-Xent)",
    Classes: "on labels, the names of sub-folders (cross-entropy over cosines)",
}


def train(task: Task, architecture: Path, *, labelled: bool | None) -> str:
    """Train an image network and return its card.

    Raises:
        ValueError: the declaration, the pictures or a checkpoint are not usable.
    """
    declaration = declared.parse(architecture.read_text())
    declaration = dataclasses.replace(declaration, name=task.out.resolve().name)
    album = _read(task.data, declaration.side, labelled)
    seen, unseen = image_dataset.split(album, task.hold_out)
    if len(seen) < 2:  # noqa: PLR2004 - contrast needs another one
        raise ValueError("training needs at least two readable pictures to learn from")
    click.echo(f"training on {len(seen)} pictures, {len(unseen)} held out")
    lesson = (Classes if album.labels[0] else Contrast)(declaration, seen, unseen, task.plan.seed)
    checkpoint = Checkpoint(task.out / CHECKPOINT, _identity(task, declaration, album))
    descent = Descent(lesson, task.plan, checkpoint)
    task.say_where(descent.progress)
    progress = descent.run()
    lesson.network().save(task.out)
    network = Network.load(task.out)  # as it will be served, rounded to what is stored
    card = "\n".join([
        _FIRST.format(network=network),
        task.data_section("pictures", len(seen), len(unseen), "pictures of a label, by name"
                          if album.labels[0] else "pictures, by name"),
        task.training_section(_METHOD[type(lesson)], progress),
        _figures(task, network, lesson, seen, unseen),
        _drawn(task, network, unseen if len(unseen) else seen),
        task.licence_section("The pictures belong to their owners and are no part of it."),
    ])  # fmt: skip
    (task.out / CARD).write_text(card)
    checkpoint.remove()
    return card


def _read(folder: Path, side: int, labelled: bool | None) -> Album:
    album, problems = image_dataset.read(folder, side, labelled=labelled)
    for problem in problems:
        click.echo(f"left out: {problem}", err=True)
    labels = sorted(set(album.labels) - {""})
    if labels:
        click.echo(f"supervised: {len(labels)} labels, the sub-folders {', '.join(labels[:10])}"
                   + (", …" if len(labels) > 10 else ""))  # fmt: skip # noqa: PLR2004
    else:
        click.echo("self-supervised: no labels")
    return album


def _identity(task: Task, declaration: Architecture, album: Album) -> dict[str, str]:
    names = "\n".join(
        f"{name}\t{label}" for name, label in zip(album.names, album.labels, strict=True)
    )
    return task.identity() | {
        "architecture": digest([declaration.to_json().encode()]),
        "data": digest([names.encode(), album.pixels.tobytes()]),
    }


def _figures(
    task: Task, network: Network, lesson: Classes | Contrast, seen: Album, unseen: Album
) -> str:
    if not len(unseen):
        return "## Figures\n\nNothing was held out, so nothing is known.\n"
    rows = np.unique(np.linspace(0, len(unseen) - 1, min(len(unseen), _MOST)).astype(int))
    files = [task.data / unseen.names[row] for row in rows]
    lines = [
        "## Figures\n",
        f"{len(files)} held-out pictures, each edited in six ways and saved as JPEG, look for",
        "their original among them all, by cosine:\n",
        "| edit | recall@1 | recall@5 |\n|---|---|---|",
        *(
            f"| {edit} | {found.at_1:.1%} | {found.at_5:.1%} |"
            for edit, found in evaluation.on_edits(network, files).items()
        ),
    ]
    if isinstance(lesson, Classes):
        found = evaluation.on_labels(network, seen, unseen)
        lines += [
            f"\nHeld-out pictures whose label is told right: {lesson.accuracy():.1%}. With a",
            f"picture of their label nearest among those learned from: {found.at_1:.1%}; among the",
            f"five nearest: {found.at_5:.1%}.",
        ]
    return "\n".join([*lines, ""])


def _drawn(task: Task, network: Network, album: Album) -> str:
    """Draw the network with one picture of an album."""
    name = album.names[0]
    picture = images.decode((task.data / name).read_bytes(), name)
    files = feature_maps.draw(network, picture, task.out / "pictures")
    return (
        f"## Pictures\n\n`pictures/` shows the filters of each convolution and what each layer sees"
        f" of\n`{name}` ({len(files)} files). `memetwin visualize` draws them for any picture.\n"
    )
