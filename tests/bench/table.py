"""Measures a cold cache of 1,000 questions, each asked for in the words of its duplicate.

The cache stores one question of each held-out pair of duplicates, and is asked the other one. An
answer is right if it is the pair's own, or that of a question which labels connect with it. The
rules of other caches run on the same vectors:

- GPTCache serves the nearest entry if its evaluator scores it at least .8 of the evaluator's
  range. Its evaluator of distances has the range 0 to 4 and gets the squared Euclidean distance of
  unit vectors, so .8 means a cosine of at least .6
  (https://github.com/zilliztech/GPTCache, gptcache/similarity_evaluation/distance.py).
- RedisVL serves the nearest entry up to a distance of .1, which is a cosine of at least .9
  (https://github.com/redis/redis-vl-python, redisvl/extensions/cache/llm/semantic.py).
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.gateway.cache.labelled_pairs import LabelledPair, component_representatives
from services.gateway.cache.types import Bound
from tests.bench.decisions import DATA, Cache
from tools.in_process_embedder import InProcessEmbedder
from tools.train_verifier import pairs

QUESTIONS = 1000
FILES = ("question_pairs.jsonl", "question_pairs_2.jsonl")
BOUNDS: Mapping[str, Bound] = {
    "memetwin, default": Bound(),
    **{
        f"memetwin, max_error_rate {rate}": Bound(max_error_rate=rate)
        for rate in (0.01, 0.02, 0.03, 0.05, 0.1)
    },
    **{f"memetwin, min_similarity {cosine}": Bound(min_similarity=cosine) for cosine in (0.7, 0.8)},
}
COSINES = {
    **{f"cosine ≥ {cosine}": cosine for cosine in (0.7, 0.8, 0.9, 0.95)},
    "GPTCache, threshold .8": 0.6,
    "RedisVL, distance .1": 0.9,
}


@dataclass
class Count:
    """Outcomes of lookups."""

    right: int = 0
    wrong: int = 0
    miss: int = 0

    def add(self, found: str | None, expected: str) -> None:
        """Count a lookup by the answer that it found, if any."""
        if found is None:
            self.miss += 1
        elif found == expected:
            self.right += 1
        else:
            self.wrong += 1

    def row(self, name: str) -> str:
        """Return the counts as a row of a Markdown table."""
        hits = self.right + self.wrong
        rate = f"{self.wrong / hits:.4f}" if hits else "–"
        return f"| {name} | {self.right} | {self.wrong} | {self.miss} | {rate} |"


def held_out(files: Sequence[str] = FILES) -> tuple[list[LabelledPair], dict[str, str]]:
    """Return the held-out pairs of all files, and the group of duplicates of each question."""
    known = [pair for file in files if (DATA / file).exists() for pair in pairs.read(DATA / file)]
    groups = component_representatives([pair for pair in known if pair.same])
    return pairs.split(known).held_out, groups


async def measure() -> None:
    known, groups = held_out()
    same = [pair for pair in known if pair.same]
    table = random.Random(1).sample(same, min(QUESTIONS, len(same)))
    kept = list(dict.fromkeys(pair.one for pair in table))
    answers = [groups[text] for text in kept]
    embedder = InProcessEmbedder()
    print(f"{len(table)} questions, {len(kept)} entries\n")
    print("| rule | right | wrong | miss | error per hit |\n|---|---|---|---|---|")
    for name, bound in BOUNDS.items():
        cache, counted = Cache(embedder), Count()
        await cache.store(kept, answers)
        for pair in table:
            decision = await cache.lookup(pair.other, bound)
            found = decision.entry.response if decision.entry else None
            counted.add(found, groups[pair.other])
        print(counted.row(name), flush=True)
    rows = (await embedder.embed_queries(kept)).rows
    cosines = (await embedder.embed_queries([pair.other for pair in table])).rows @ rows.T
    for name, least in COSINES.items():
        counted = Count()
        for pair, row in zip(table, cosines, strict=True):
            nearest = int(row.argmax())
            found = answers[nearest] if row[nearest] >= least else None
            counted.add(found, groups[pair.other])
        print(counted.row(name))


def main() -> None:
    absent = [file for file in FILES if not (DATA / file).exists()]
    if absent:
        print(f"{DATA} lacks {' and '.join(absent)}.")
    if len(absent) < len(FILES):
        asyncio.run(measure())


if __name__ == "__main__":
    main()
