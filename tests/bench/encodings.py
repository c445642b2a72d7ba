"""What an encoding keeps of a search: the share of the true ten nearest that its vectors find.

Real questions against real questions (of MEMETWIN_TEST_DATA), float32 cosine being the truth. INT8
codes are compared as they are, without their scale; BINARY by the bits that differ.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.embedder import encodings
from services.embedder.int8_scales import Ranges
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from tests.conftest import data_folder

QUESTIONS = 500
COUNT = 5_000
CUTS = (0, 128)


def questions() -> list[str]:
    rows = map(json.loads, (data_folder() / "question_pairs.jsonl").read_text().splitlines())
    return list(dict.fromkeys(row["a"] for row in rows))[:COUNT]


def embedded(model: SentenceTransformerModel) -> NDArray[np.float32]:
    items = sorted(enumerate(model.prepare(questions(), "")), key=lambda one: one[1].cost)
    rows = np.empty((len(items), model.info.dimensions), np.float32)
    for first in range(0, len(items), 32):
        part = items[first : first + 32]
        rows[[place for place, _ in part]] = model.encode([item for _, item in part])
    return rows


def nearest(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1)[:, :10]


def unpacked(packed: encodings.Packed, encoding: str) -> NDArray[np.float32]:
    """Return codes as numbers, such that a cosine compares them."""
    kinds = {"float32": "<f4", "float16": "<f2", "int8": "i1"}
    if encoding == "binary":
        bits = np.unpackbits(np.frombuffer(packed.data, np.uint8))
        return bits.reshape(-1, packed.dimensions).astype(np.float32) * 2 - 1
    codes = np.frombuffer(packed.data, kinds[encoding]).reshape(-1, packed.dimensions)
    return codes.astype(np.float32)


def overlap(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, true, strict=True)]))


def search(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    unit = encodings.shape(rows, 0, normalize=True)
    return nearest(unit[:QUESTIONS] @ unit[QUESTIONS:].T)


def main() -> None:
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL)
    rows, ranges = embedded(model), Ranges.of(model, Path("~/.cache/memetwin"))
    print(
        "| dimensions | encoding | bytes | top-10 overlap with float32 | clipped numbers |\n|---|---|---|---|---|"
    )
    for cut in CUTS:
        shaped = encodings.shape(rows, cut, normalize=True)
        scale, true = ranges.scale(cut, normalize=True), search(shaped)
        for encoding in ("float16", "int8", "binary"):
            packed = encodings.pack(shaped, encoding, scale)
            found = overlap(search(unpacked(packed, encoding)), true)
            clipped = float((np.abs(shaped) > 127.5 * scale).mean()) if encoding == "int8" else 0
            size = len(packed.data) // len(rows)
            print(f"| {packed.dimensions} | {encoding} | {size} | {found:.4f} | {clipped:.1e} |")


if __name__ == "__main__":
    main()
