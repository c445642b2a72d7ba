"""Measures how often an edited picture finds its original: the shipped network and two baselines.

``python -m tests.bench.twins`` starts the embedder, sends it files and edits by gRPC, and prints
recall@1 in percent for each kind of edit: for 72 memes, none of which was in the training data, and
for 200 held-out photographs. Memes are searched among memes, and photographs among photographs.
Then it prints whether the required recall is reached. The data are in the folder
MEMETWIN_TEST_DATA; an argument names another network's folder.
"""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memetwin.embedder.v1 import embedder_pb2
from services.embedder.decoding import images
from services.embedder.models.convnet import DEFAULT_IMAGE_MODEL
from services.embedder.models.network import Network, flatten_onto_white
from services.embedder.training.image_edits import EDITS, edited_jpeg
from tests.embedder_process import EmbedderProcess

Vectors = NDArray[np.float32]
Encoder = Callable[[list[bytes]], Vectors]  # of picture files
Recall = dict[str, dict[str, float]]
REQUIRED_RECALL = {"memes": 99.0, "held-out photos": 97.0}
BATCH = 32
HELD_OUT = 4  # the training holds out the first of every four photographs, sorted by name


def data_folder() -> Path:
    """Return the folder of the test data, which may not exist."""
    return Path(os.environ.get("MEMETWIN_TEST_DATA", "../shared/data"))


def memes() -> list[Path]:
    """Return the meme pictures in the order of their names."""
    return sorted((data_folder() / "memes").iterdir())


def held_out_photos() -> list[Path]:
    """Return the photographs that are not in the training data, in the order of their names."""
    return sorted((data_folder() / "photos").iterdir())[::HELD_OUT]


def nearest_rows(queries: Vectors, stored: Vectors) -> dict[str, NDArray[np.int64]]:
    """Return the nearest stored row for each query, by each metric."""
    unit_queries, unit_stored = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, stored)
    )
    squares = (stored**2).sum(
        1
    ) - 2 * queries @ stored.T  # squared L2 up to a constant for each query
    return {
        "cosine": (unit_queries @ unit_stored.T).argmax(1),
        "ip": (queries @ stored.T).argmax(1),
        "l2": squares.argmin(1),
    }


def recall(encode: Encoder, files: list[Path]) -> Recall:
    """Return recall@1 by kind of edit (``none`` is the file itself) and by metric."""
    data = [file.read_bytes() for file in files]
    originals = [Image.open(file) for file in files]
    stored = encode(data)
    found = {"none": nearest_rows(encode(data), stored)}
    for edit in EDITS:
        changed = [
            edited_jpeg(image, edit, path.name)
            for image, path in zip(originals, files, strict=True)
        ]
        found[edit] = nearest_rows(encode(changed), stored)
    rows = np.arange(len(files))
    return {
        edit: {metric: float((nearest == rows).mean()) for metric, nearest in by_metric.items()}
        for edit, by_metric in found.items()
    }


def overall(recalls: Recall, metric: str) -> float:
    """Return recall@1 over all edits, without the unchanged file."""
    return float(np.mean([recalls[edit][metric] for edit in EDITS]))


def with_network(network: Network) -> Encoder:
    """Return an encoder that runs a network in this process, and decodes as the embedder does."""
    return lambda files: network.encode(
        np.stack([network.prepare(images.decode(file, "")) for file in files])
    )


def with_embedder(served: EmbedderProcess) -> Encoder:
    """Return an encoder that calls a running embedder; the vectors are not normalised."""

    def encode(files: list[bytes]) -> Vectors:
        parts = [files[first : first + BATCH] for first in range(0, len(files), BATCH)]
        return np.concatenate([_embed(served, part) for part in parts])

    return encode


def _embed(served: EmbedderProcess, files: list[bytes]) -> Vectors:
    inputs = [embedder_pb2.Input(image=file) for file in files]
    request = embedder_pb2.EmbedRequest(inputs=inputs, normalize=False)
    reply = served.stub.Embed(request, timeout=120)
    return np.frombuffer(reply.vectors, "<f4").reshape(len(files), reply.dimensions)


def _open(file: bytes) -> Image.Image:
    return flatten_onto_white(Image.open(io.BytesIO(file)))


def perceptual_hash(files: list[bytes]) -> Vectors:
    """Return perceptual hashes (pHash): signs of the 8 x 8 lowest frequencies of 32 x 32 greys."""
    row, column = np.mgrid[0:8, 0:32]
    cosines = np.cos(np.pi * row * (2 * column + 1) / 64)
    grey = np.stack([np.asarray(_open(f).convert("L").resize((32, 32)), float) for f in files])
    low = (cosines @ grey @ cosines.T).reshape(len(files), 64)
    signs: Vectors = np.sign(low - np.median(low, axis=1, keepdims=True)).astype(np.float32)
    return signs


def colour_histogram(files: list[bytes]) -> Vectors:
    """Return square roots of colour shares, whose cosine is the Bhattacharyya coefficient."""
    shares = []
    for file in files:
        pixels = np.asarray(_open(file)).reshape(-1, 3).astype(int) // 32
        counts = np.bincount(pixels @ (64, 8, 1), minlength=512)
        shares.append(np.sqrt(counts / counts.sum()))
    return np.array(shares, np.float32)


def _print(title: str, recalls: Recall, metrics: tuple[str, ...]) -> None:
    for metric in metrics:
        cells = "".join(f"{100 * recalls[edit][metric]:11.1f}" for edit in recalls)
        print(f"{title:<17} {metric:<7}{100 * overall(recalls, metric):7.2f}{cells}")


def main(network: str) -> None:
    """Print the tables, then whether the required recall is reached."""
    served = EmbedderProcess(os.environ | {"MEMETWIN_IMAGE_MODEL": network})
    verdicts = []
    for kind, files in {"memes": memes(), "held-out photos": held_out_photos()}.items():
        columns = "".join(f"{edit:>11}" for edit in ("none", *EDITS))
        print(f"\n{len(files)} {kind}, recall@1 in %\n{'':<17} {'metric':<7}{'edits':>7}{columns}")
        found = recall(with_embedder(served), files)
        _print("network, served", found, ("cosine", "ip", "l2"))
        _print("perceptual hash", recall(perceptual_hash, files), ("cosine",))
        _print("colour histogram", recall(colour_histogram, files), ("cosine",))
        share, edits = 100 * overall(found, "cosine"), len(files) * len(EDITS)
        verdict = "reached" if share >= REQUIRED_RECALL[kind] else "MISSED"
        verdicts.append(
            f"{edits} edits of {len(files)} {kind}: {share:.2f} %, at least {REQUIRED_RECALL[kind]:g} %: {verdict}"
        )
    served.stop()
    print("\nRequired recall@1 by cosine, through the embedder:", *verdicts, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_IMAGE_MODEL)
