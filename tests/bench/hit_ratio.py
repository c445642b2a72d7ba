"""Measures precision over hit ratio and recall at precision, for the verifier and for the cosine.

P-CHR AUC is the area under the precision as a function of the share of lookups that hit (arXiv
2606.19719). It is measured on held-out pairs, and on their questions as a stream: each question is
asked in turn, and its nearest earlier question is the candidate.
"""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from services.gateway.cache.labelled_pairs import LabelledPair, distinct_texts
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Question, Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier, is_unsure
from tests.bench.decisions import DATA
from tests.bench.table import FILES, held_out
from tests.bench.verifier import precision_area
from tools.in_process_embedder import InProcessEmbedder
from tools.train_verifier.card import recall, recall_intervals

PRECISIONS = (0.8, 0.85, 0.9, 0.95)
STREAM = 3000  # questions, both of each pair that is drawn
Array = NDArray[np.float64]


async def judged(embedder: InProcessEmbedder, known: Sequence[LabelledPair]) -> dict[str, Array]:
    """Return the scores of each pair: the first stage's, both stages' and the cosine."""
    texts = distinct_texts(known)
    rows = dict(zip(texts, (await embedder.embed_queries(texts)).rows, strict=True))
    questions = {text: Question(LexicalText(text), rows[text], embedder.digest) for text in texts}
    cosines = np.array([float(rows[pair.one] @ rows[pair.other]) for pair in known])
    verifier = Verifier.load()
    first = [
        verifier.judge(questions[pair.one], questions[pair.other], cosine)
        for pair, cosine in zip(known, cosines, strict=True)
    ]
    embedder.score_all(
        [
            (pair.one, pair.other)
            for pair, judgement in zip(known, first, strict=True)
            if is_unsure(judgement)
        ]
    )
    both = PairVerifier(verifier, embedder)
    second = [
        await both.judge(questions[pair.one], questions[pair.other], cosine)
        for pair, cosine in zip(known, cosines, strict=True)
    ]
    return {
        "verifier, both stages": np.array([one.probability for one in second]),
        "verifier, first stage": np.array([one.probability for one in first]),
        "cosine": cosines,
    }


async def stream(embedder: InProcessEmbedder, known: Sequence[LabelledPair]) -> list[LabelledPair]:
    """Return each question with its nearest earlier one.

    Those of one group of duplicates are the same. Others count as different even without a label.
    """
    _, groups = held_out()
    rng = np.random.default_rng(1)
    drawn = [known[place] for place in rng.permutation(len(known))[: STREAM // 2]]
    texts = distinct_texts(drawn)
    asked = [texts[place] for place in rng.permutation(len(texts))]
    rows = (await embedder.embed_queries(asked)).rows
    pairs = []
    for place in range(1, len(asked)):
        nearest = asked[int((rows[:place] @ rows[place]).argmax())]
        same = groups.get(nearest, nearest) == groups.get(asked[place], asked[place])
        pairs.append(LabelledPair(nearest, asked[place], same))
    return pairs


def print_table(scores: Mapping[str, Array], same: NDArray[np.bool_]) -> None:
    intervals = [recall_intervals(list(scores.values()), same, one) for one in PRECISIONS]
    print("| | P-CHR AUC |" + "".join(f" recall at {one} |" for one in PRECISIONS))
    print("|---|---|" + "---|" * len(PRECISIONS))
    for row, (name, score) in enumerate(scores.items()):
        cells = [f"{precision_area(score, same):.4f}"]
        for precision, found in zip(PRECISIONS, intervals, strict=True):
            low, high = found[row]
            cells.append(f"{recall(score, same, precision):.3f} [{low:.3f}, {high:.3f}]")
        print(f"| {name} | {' | '.join(cells)} |")


async def measure() -> None:
    known, _ = held_out()
    embedder = InProcessEmbedder()
    for title, pairs in (
        ("held-out pairs", known),
        ("lookups of a stream", await stream(embedder, known)),
    ):
        same = np.array([pair.same for pair in pairs])
        print(f"\n{len(pairs)} {title}, of which {same.sum()} ask the same:\n")
        print_table(await judged(embedder, pairs), same)


def main() -> None:
    absent = [file for file in FILES if not (DATA / file).exists()]
    if absent:
        print(f"{DATA} lacks {' and '.join(absent)}.")
    if len(absent) < len(FILES):
        asyncio.run(measure())


if __name__ == "__main__":
    main()
