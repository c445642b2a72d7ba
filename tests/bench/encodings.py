"""Recall of each vector encoding: the share of the true ten nearest neighbours that it finds.

Real questions (from MEMETWIN_TEST_DATA) are searched among other real questions. Exact search by
float32 cosine is the reference. INT8 codes are compared without their scale, BINARY codes by
Hamming distance.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.embedder import encodings
from services.embedder.int8_scales import Int8Scales
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from tests.conftest import data_folder

QUESTIONS = 500
COUNT = 5_000
DIMENSIONS = (0, 128)  # 0 keeps all


def questions() -> list[str]:
    rows = map(json.loads, (data_folder() / "question_pairs.jsonl").read_text().splitlines())
    return list(dict.fromkeys(row["a"] for row in rows))[:COUNT]


def embed_all(model: SentenceTransformerModel) -> NDArray[np.float32]:
    items = sorted(enumerate(model.prepare(questions(), "")), key=lambda one: one[1].cost)
    vectors = np.empty((len(items), model.info.dimensions), np.float32)
    for first in range(0, len(items), 32):
        part = items[first : first + 32]
        vectors[[index for index, _ in part]] = model.encode([item for _, item in part])
    return vectors


def nearest(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1)[:, :10]


def decode(encoded: encodings.EncodedVectors, encoding: str) -> NDArray[np.float32]:
    """Return codes as numbers for a cosine."""
    dtypes = {"float32": "<f4", "float16": "<f2", "int8": "i1"}
    if encoding == "binary":
        bits = np.unpackbits(np.frombuffer(encoded.data, np.uint8))
        return bits.reshape(-1, encoded.dimensions).astype(np.float32) * 2 - 1
    codes = np.frombuffer(encoded.data, dtypes[encoding]).reshape(-1, encoded.dimensions)
    return codes.astype(np.float32)


def overlap(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, true, strict=True)]))


def search(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    unit = encodings.truncate_dimensions(vectors, 0, normalize=True)
    return nearest(unit[:QUESTIONS] @ unit[QUESTIONS:].T)


def main() -> None:
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL)
    vectors, scales = embed_all(model), Int8Scales.for_model(model, Path("~/.cache/memetwin"))
    print(
        "| dimensions | encoding | bytes | top-10 overlap with float32 | clipped values |\n|---|---|---|---|---|"
    )
    for dimensions in DIMENSIONS:
        kept = encodings.truncate_dimensions(vectors, dimensions, normalize=True)
        scale, true = scales.scale(dimensions, normalize=True), search(kept)
        for encoding in ("float16", "int8", "binary"):
            encoded = encodings.encode(kept, encoding, scale)
            found = overlap(search(decode(encoded, encoding)), true)
            clipped = float((np.abs(kept) > 127.5 * scale).mean()) if encoding == "int8" else 0
            size = len(encoded.data) // len(vectors)
            print(f"| {encoded.dimensions} | {encoding} | {size} | {found:.4f} | {clipped:.1e} |")


if __name__ == "__main__":
    main()
