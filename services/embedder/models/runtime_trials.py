"""Trials of runtimes: how well their vectors agree with a reference, and how fast they are."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.embedder.models.model import RuntimeTrial, Vectors
from services.embedder.models.runtimes import Runtime, TokenIds

log = logging.getLogger(__name__)

_SAMPLE_FILE = Path(__file__).with_name("sample.json")
# Number of texts that are computed both singly and in batches.
_BATCH_INVARIANCE_TEXTS = 12
_SPEED_ROUNDS = 2


@dataclass(frozen=True)
class Sample:
    """Tokenised texts: queries, and then the passages that answer them, in the same order."""

    texts: Sequence[TokenIds]

    @classmethod
    def bundled(cls, tokenize: Callable[[str], TokenIds]) -> "Sample":
        """Read and tokenise the project's sample."""
        pairs = json.loads(_SAMPLE_FILE.read_text("utf-8"))
        return cls([tokenize(pair[side]) for side in (0, 1) for pair in pairs])

    @classmethod
    def bundled_pairs(cls, tokenize: Callable[[str, str], TokenIds]) -> "Sample":
        """Read the project's sample as pairs of texts, and tokenise each pair in both orders."""
        pairs = json.loads(_SAMPLE_FILE.read_text("utf-8"))
        return cls([tokenize(*order) for order in [*pairs, *map(reversed, pairs)]])

    def top1_hits(self, vectors: Vectors) -> int:
        """Count the queries whose nearest passage is their own.

        Args:
            vectors: the vectors of ``texts``, float32 [n, dimensions], of length 1.
        """
        half = len(vectors) // 2
        nearest = (vectors[:half] @ vectors[half:].T).argmax(1)
        return int((nearest == np.arange(half)).sum())


def run_trials(factories: Iterable[Callable[[], Runtime]], sample: Sample) -> list[RuntimeTrial]:
    """Try runtimes. The first is the reference for the others. Runtimes that fail are left out."""
    remaining = iter(factories)
    reference = next(remaining)()
    expected = _vectors(reference, sample.texts)
    trials = [_try(reference, sample, expected, expected)]
    for create in remaining:
        try:
            runtime = create()
            trial = _try(runtime, sample, _vectors(runtime, sample.texts), expected)
            if not math.isfinite(trial.min_cosine + trial.batch_invariance):
                raise ValueError("a vector is not finite")
            trials.append(trial)
        except Exception:
            log.exception("a runtime failed its trial and is left out")
    return trials


def unit_length(vectors: Vectors) -> Vectors:
    """Scale each row to length 1."""
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def _try(runtime: Runtime, sample: Sample, vectors: Vectors, expected: Vectors) -> RuntimeTrial:
    cosines = (vectors * expected).sum(1)
    return RuntimeTrial(
        runtime=runtime.name,
        dtype=runtime.dtype,
        mean_cosine=float(cosines.mean()),
        min_cosine=float(cosines.min()),
        batch_invariance=_batch_invariance(runtime, sample, vectors),
        top1_hits=sample.top1_hits(vectors),
        texts_per_second=_texts_per_second(runtime, sample.texts),
    )


def _batch_invariance(runtime: Runtime, sample: Sample, vectors: Vectors) -> float:
    """Return the smallest cosine between a text's vectors, computed singly and in batches."""
    texts = sample.texts[-_BATCH_INVARIANCE_TEXTS:]
    alone = unit_length(np.vstack([runtime.compute([text]) for text in texts]))
    together = unit_length(runtime.compute(texts))
    batches = (together, vectors[-len(texts) :])
    return float(min((alone * batch).sum(1).min() for batch in batches))


def _vectors(runtime: Runtime, texts: Sequence[TokenIds]) -> Vectors:
    """Compute vectors of length 1 in the order of their texts, in batches like the service's."""
    batches = list(batch_by_length(texts, runtime.batch_tokens))
    with ThreadPoolExecutor(runtime.workers) as pool:
        parts = pool.map(lambda batch: runtime.compute([texts[n] for n in batch]), batches)
        vectors = np.vstack(list(parts))
    return unit_length(vectors[np.argsort(np.concatenate(batches))])


def _texts_per_second(runtime: Runtime, texts: Sequence[TokenIds]) -> float:
    """Measure the throughput with all workers busy, as the best of several rounds."""
    some = texts[::3]  # a third is enough to compare runtimes, and the operator waits for it
    batches = [[some[n] for n in batch] for batch in batch_by_length(some, runtime.batch_tokens)]
    seconds, batches = [], batches * runtime.workers
    with ThreadPoolExecutor(runtime.workers) as pool:
        for _ in range(_SPEED_ROUNDS):
            started = time.perf_counter()
            list(pool.map(runtime.compute, batches))
            seconds.append(time.perf_counter() - started)
    return len(some) * runtime.workers / min(seconds)


def batch_by_length(texts: Sequence[TokenIds], max_tokens: int) -> Iterator[list[int]]:
    """Split texts into batches of similar length.

    Yields:
        Batches of positions in ``texts``, shortest first, each of at most ``max_tokens`` with
            padding, or one text.
    """
    batch: list[int] = []
    for position in sorted(range(len(texts)), key=lambda n: len(texts[n])):
        if batch and len(texts[position]) * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(position)
    yield batch
