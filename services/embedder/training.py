"""The command ``memetwin train``: a folder of pictures in, a network in a folder out.

It reads the pictures, keeps every fourth one out, teaches a network the rest (contrast.py),
measures how well it finds the pictures it has never seen, and writes the network with a card that
says all this.
"""

import dataclasses
import time
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm import tqdm

from services.embedder import contrast
from services.embedder.augmentations import Views
from services.embedder.contrast import Pictures, Plan
from services.embedder.models import architecture as declared
from services.embedder.models.network import ARCHITECTURE, SHIPPED, Network, over_white

_CARD = """# {network.name}

An image network: {network.side} x {network.side} pixels in, {network.dimensions} numbers out.
Digest `{network.digest}`.

Trained by contrast between changed views on {seen} pictures of the folder `{folder}`, in {took:.0f}
minutes, with `memetwin train {options}`.{held_out}
"""
_HELD_OUT = """ Of {unseen} pictures that it has not seen, it finds {recall:.1%} by a
heavily changed view among all of them (cosine, rank 1)."""


@click.command()
@click.option(
    "--pictures",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the pictures to learn from.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write the network to.",
)
@click.option(
    "--architecture",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=SHIPPED / ARCHITECTURE,
    help="Declared architecture; the shipped one by default.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="How often to see every picture.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=float("inf"),
    help="When to end even so.",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="The same seed gives the same network."
)
@click.option(
    "--hold-out",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    help="Of every so many pictures (by name), keep the first for evaluation; 0 keeps none.",
)
def train(  # noqa: PLR0913, PLR0917 - a command's options
    pictures: Path,
    out: Path,
    architecture: Path,
    epochs: int,
    minutes: float,
    seed: int,
    hold_out: int,
) -> None:
    """Train an image network on a folder of pictures, without labels."""
    began = time.monotonic()
    try:
        declaration = declared.parse(architecture.read_text())
        found, unreadable = read(pictures)
        for name in unreadable:
            click.echo(f"left out, no readable picture: {name}", err=True)
        seen, unseen = split(found, hold_out)
        click.echo(f"training on {len(seen.names)} pictures, {len(unseen.names)} held out")
        named = dataclasses.replace(declaration, name=out.resolve().name)
        network = contrast.fit(named, seen, Plan(epochs, minutes, seed))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    network.save(out)
    network = Network.load(out)  # as it will be served, rounded to what is stored
    options = f"--epochs {epochs} --minutes {minutes:g} --seed {seed} --hold-out {hold_out}"
    card = _CARD.format(
        network=network,
        seen=len(seen.names),
        folder=pictures.resolve().name,
        took=(time.monotonic() - began) / 60,
        options=options,
        held_out=_held_out(network, unseen, seed),
    )
    (out / "README.md").write_text(card)
    click.echo(card)


def _held_out(network: Network, unseen: Pictures, seed: int) -> str:
    if not unseen.names:
        return ""
    return _HELD_OUT.format(unseen=len(unseen.names), recall=finds(network, unseen, seed))


def split(pictures: Pictures, hold_out: int) -> tuple[Pictures, Pictures]:
    """Part pictures into those to learn from and the first of every ``hold_out``, held out."""
    rows = np.arange(len(pictures.names))
    out = rows % hold_out == 0 if hold_out else np.zeros(len(rows), bool)
    return pictures.select(rows[~out]), pictures.select(rows[out])


def finds(network: Network, pictures: Pictures, seed: int) -> float:
    """Share of pictures that a heavily changed view of them finds at rank 1, by cosine."""
    views = Views(pictures.pixels.shape[1], seed + 1).make(
        torch.from_numpy(pictures.pixels), torch.from_numpy(pictures.aspects), strength=0.8
    )
    changed = views.permute(0, 2, 3, 1).byte().numpy()
    stored, asked = _unit(network, pictures.pixels), _unit(network, changed)
    return float(((asked @ stored.T).argmax(1) == np.arange(len(stored))).mean())


def _unit(network: Network, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    batch = np.stack([network.prepare(Image.fromarray(picture)) for picture in pixels])
    vectors = network.encode(batch)
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def read(folder: Path, side: int = 128) -> tuple[Pictures, list[str]]:
    """Read all pictures of a folder, sorted by name.

    Returns:
        The pictures, stretched to squares of ``side`` pixels, and the names of the files that hold
        no readable picture.
    """
    pixels, aspects, names, unreadable = [], [], [], []
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    for path in tqdm(files, desc="reading", unit="file", mininterval=5):
        try:
            with Image.open(path) as image:
                rgb = over_white(ImageOps.exif_transpose(image))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            unreadable.append(path.name)
            continue
        pixels.append(np.asarray(rgb.resize((side, side), Image.Resampling.BICUBIC)))
        aspects.append(rgb.width / rgb.height)
        names.append(path.name)
    stacked = np.stack(pixels) if pixels else np.empty((0, side, side, 3), np.uint8)
    return Pictures(stacked, np.array(aspects, np.float32), names), unreadable


if __name__ == "__main__":
    train()
