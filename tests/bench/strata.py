"""Measures pairs of questions that differ in one way: order, script, class words, numbers and more.

Each cache holds one question of a pair and is asked the other one, with the default bound. No
look-alike should be served. A paraphrase that a minimum cosine of .9 alone would serve should stay
served.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from services.gateway.cache.labelled_pairs import LabelledPair, distinct_texts
from services.gateway.cache.types import Bound
from tests.bench.decisions import Cache
from tools.in_process_embedder import InProcessEmbedder
from tools.train_verifier import strata

NEAR = 0.9


async def served(embedder: InProcessEmbedder, pairs: Sequence[LabelledPair]) -> int:
    """Return how many of the pairs share an answer, each in a cold cache."""
    hits = 0
    for pair in pairs:
        cache = Cache(embedder)
        await cache.store([pair.one], ["The answer."])
        hits += (await cache.lookup(pair.other, Bound())).entry is not None
    return hits


async def near(embedder: InProcessEmbedder, pairs: Sequence[LabelledPair]) -> list[LabelledPair]:
    """Return the pairs that a minimum cosine would serve."""
    one = (await embedder.embed_queries([pair.one for pair in pairs])).rows
    other = (await embedder.embed_queries([pair.other for pair in pairs])).rows
    cosines = np.einsum("ij,ij->i", one, other)
    return [pair for pair, cosine in zip(pairs, cosines, strict=True) if cosine >= NEAR]


async def measure() -> None:
    embedder = InProcessEmbedder()
    print(f"| kind | look-alikes | served | cosine ≥ {NEAR} serves | paraphrases near | served |")
    print("|---|---|---|---|---|---|")
    totals = np.zeros(5, int)
    for kind in strata.KINDS:
        different = strata.look_alikes("held_out", kind)
        same = strata.paraphrases("held_out", kind)
        await embedder.embed_queries(distinct_texts([*different, *same]))
        same = await near(embedder, same)
        row = np.array(
            [
                len(different),
                await served(embedder, different),
                len(await near(embedder, different)),
                len(same),
                await served(embedder, same),
            ]
        )
        totals += row
        print(line(kind, row), flush=True)
    print(line("all", totals))


def line(kind: str, row: np.ndarray) -> str:
    different, wrong, by_cosine, same, right = row.tolist()
    return (
        f"| {kind} | {different} | {wrong} ({wrong / different:.1%}) |"
        f" {by_cosine} ({by_cosine / different:.1%}) | {same} | {right} ({right / max(same, 1):.1%}) |"
    )


if __name__ == "__main__":
    asyncio.run(measure())
