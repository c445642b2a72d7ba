"""The command ``memetwin train``: a folder of pictures in, a network in a folder out.

It reads the pictures, keeps every fourth one out, teaches a network the rest (contrast.py),
measures how well it finds the pictures it has never seen, and writes the network with a card that
says all this.
"""

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

_CARD = """# {name}

An image network: {side} x {side} pixels in, a vector of {dimensions} numbers out.
Digest `{digest}`.

Trained by contrast between changed views on {trained} pictures of the folder `{folder}`, with
`memetwin train --epochs {epochs} --seed {seed} --hold-out {hold_out}`. Of {held_out} pictures that
it has not seen, it finds {recall:.1%} by a heavily changed view among all of them (cosine, rank 1).
"""


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
    try:
        declaration = declared.parse(architecture.read_text())
        found, unreadable = read(pictures)
        seen, unseen = split(found, hold_out)
        for name in unreadable:
            click.echo(f"left out, no readable picture: {name}", err=True)
        click.echo(f"training on {len(seen.names)} pictures, {len(unseen.names)} held out")
        network = contrast.fit(declaration, seen, Plan(epochs, minutes, seed))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    network.save(out)
    network = Network.load(out)  # as it will be served, rounded to what is stored
    recall = finds(network, unseen, seed)
    click.echo(f"finds {recall:.1%} of the held-out pictures by a heavily changed view")
    facts = {
        "folder": pictures.name,
        "trained": len(seen.names),
        "held_out": len(unseen.names),
        "recall": recall,
        "epochs": epochs,
        "seed": seed,
        "hold_out": hold_out,
    }
    about = {
        "name": network.name,
        "side": network.side,
        "dimensions": network.dimensions,
        "digest": network.digest,
    }
    (out / "README.md").write_text(_CARD.format(**facts, **about))
    click.echo(f"wrote {out}")


def split(pictures: Pictures, hold_out: int) -> tuple[Pictures, Pictures]:
    """Part pictures into those to learn from and the first of every ``hold_out``, held out."""
    rows = np.arange(len(pictures.names))
    out = rows % hold_out == 0 if hold_out else np.zeros(len(rows), bool)
    return pictures.select(rows[~out]), pictures.select(rows[out])


def finds(network: Network, pictures: Pictures, seed: int) -> float:
    """Share of pictures that a heavily changed view of them finds at rank 1, by cosine."""
    if not pictures.names:
        return float("nan")
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
