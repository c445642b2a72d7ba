"""Reads vCache's public streams, and measures them: ``python -m tests.bench.public_streams FILE``.

A file is a dataset of https://huggingface.co/vCache (SemBenchmarkLmArena, SemBenchmarkClassification
or SemBenchmarkSearchQueries) as JSON lines, as a JSON array, or as Parquet if pyarrow is installed.
Prompts of one ``id_set`` have one answer. A dataset without that column has the labels of
classifications as responses, and equal responses count as one answer.
"""

import argparse
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
)
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Question
from tests.bench.budget import BUDGETS, Stream, ours
from tools.train_verifier.second_stage import encode

GROUPS = ("id_set", "ID_Set")
RESPONSES = "response"  # the prefix of columns with responses


class Prompt(NamedTuple):
    """A prompt of a stream, and the id of its answer."""

    text: str
    answer: str


def read(file: Path, limit: int | None = None) -> list[Prompt]:
    """Return the prompts of a file in order, at most ``limit``.

    Raises:
        ValueError: a row has no prompt, or nothing that tells its answer.
    """
    rows = itertools.islice(_rows(file), limit)
    return [_prompt(row, number) for number, row in enumerate(rows, 1)]


def _prompt(row: dict[str, Any], number: int) -> Prompt:
    text = row.get("prompt") or " ".join(row[name] for name in ("task", "text") if row.get(name))
    groups = [str(row[name]) for name in GROUPS if row.get(name) is not None]
    responses = [
        str(row[name]).strip().casefold()
        for name in sorted(row)
        if name.startswith(RESPONSES) and not name.endswith("_lat") and row[name] is not None
    ]
    if not text:
        raise ValueError(f'Row {number} has no "prompt", and no "task" or "text" either.')
    if not groups and not responses:
        raise ValueError(f'Row {number} has no "id_set" and no response.')
    return Prompt(text, [*groups, *responses][0])


def _rows(file: Path) -> Iterable[dict[str, Any]]:
    if file.suffix == ".parquet":
        return _parquet_rows(file)
    if file.suffix == ".json":
        rows: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))
        return rows
    return _json_lines(file)


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def _parquet_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows without their embeddings, which are by far the largest columns."""
    try:
        from pyarrow import parquet  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise SystemExit("Install pyarrow to read Parquet, or convert the file to JSON.") from None
    source = parquet.ParquetFile(file)
    columns = [name for name in source.schema_arrow.names if not name.startswith("emb_")]
    for batch in source.iter_batches(columns=columns):
        yield from batch.to_pylist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--limit", type=int, help="prompts to read")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffle")
    options = parser.parse_args()
    prompts = read(options.file, options.limit)
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL)
    vectors = encode(model, [prompt.text for prompt in prompts], "query").astype(np.float32)
    questions = [
        Question(LexicalText(prompt.text), vector, model.info.digest)
        for prompt, vector in zip(prompts, vectors, strict=True)
    ]
    answers = [prompt.answer for prompt in prompts]
    print(f"{len(prompts)} prompts, {len(set(answers))} answers\n")
    print("| budget | error rate | per hit | hits | shadow requests |\n|---|---|---|---|---|")
    for rate in BUDGETS:
        outcome = ours(Stream(questions, answers, options.seed), rate)
        print(
            f"| {rate} | {outcome.wrong:.4f} | {outcome.per_hit:.4f} | {outcome.hits:.3f} |"
            f" {outcome.shadow:.3f} |"
        )


if __name__ == "__main__":
    main()
