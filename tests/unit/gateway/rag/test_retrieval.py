import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.gateway.backends.types import Hit, Vectors
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.rag.retrieval import (
    HITS_PER_PASSAGE,
    HYBRID_DEPTH,
    MAX_HITS,
    MAX_TEXT_CHARACTERS,
    best_similarity,
    build_queries,
    embed_question,
    rank,
    select,
)
from services.gateway.rag.types import Passage, Question
from tests.fakes.backends import DIMENSIONS, FakeEmbedder

SOURCE = "One is here. Two is there.\n\nThree is gone. Four stays."


def hit(start: int, end: int, number: int, score: float, **more: Any) -> Hit:
    given: dict[str, Any] = {"document": "d", "gap": None, "lead": "T\n", "text": SOURCE} | more
    place = {
        "document": given["document"],
        "title": "T",
        "version": "v",
        "start": start,
        "end": end,
        "lead": len(given["lead"]),
        "number": number,
        "section": "S",
        "page": 0,
        "gap": given["gap"],
    }
    return Hit(
        id=f"{given['document']}#{number}",
        similarity=given.get("similarity", score),
        distance=0,
        fields={"memetwin_document": given["document"], "year": 2012.0},
        text=given["lead"] + given["text"][start:end],
        payload=json.dumps(place).encode(),
        score=score,
        text_score=given.get("text_score", 0.0),
        vector=given.get("vector"),
    )


async def passages(hits: list[list[Hit]], limit: int, diversity: float = 0.0) -> list[Passage]:
    return await select(rank(hits), limit, diversity)


async def test_neighbours_join_across_white_space_and_overlaps() -> None:
    hits = [hit(28, 42, 1, 0.9), hit(0, 26, 0, 0.4, gap="\n\n"), hit(28, 54, 2, 0.5)]
    [passage] = await passages([hits], 5)
    assert passage.text == SOURCE[passage.start : passage.end] == SOURCE
    assert (passage.chunk, passage.section) == ("d#1", "S")
    assert passage.score == pytest.approx(0.9)
    assert passage.fields == {"year": 2012.0}


async def test_a_passage_is_its_own_words_not_those_around_it() -> None:
    one = hit(13, 26, 0, 0.9)
    place = json.loads(one.payload) | {"lead": len("T\n") + 13}
    found = replace(one, text="T\n" + SOURCE, payload=json.dumps(place).encode())
    assert [passage.text for passage in await passages([[found]], 5)] == ["Two is there."]


async def test_joined_chunks_score_as_one_document_would() -> None:
    def scored(start: int, end: int, number: int, near: float, worded: float, **more: Any) -> Hit:
        score = 0.5 * near + 0.04 * worded - 0.1
        return hit(start, end, number, score, similarity=near, text_score=worded, **more)

    hits = [
        scored(0, 26, 0, 0.8, 2.0, gap="\n\n"),
        scored(28, 54, 1, 0.3, 9.0),
        scored(0, 26, 0, 0.1, 1.0, document="e"),
        scored(0, 26, 0, 0.4, 0.0, document="f", text=SOURCE.upper()),
    ]
    found = await passages([hits], 5)
    assert found[0].score == pytest.approx(0.5 * 0.8 + 0.04 * 9 - 0.1)
    assert found[1].score == pytest.approx(0.5 * 0.4 - 0.1)


async def test_chunks_apart_stay_apart() -> None:
    hits = [hit(0, 12, 0, 0.9), hit(28, 42, 2, 0.8), hit(43, 54, 3, 0.7)]
    assert [one.text for one in await passages([hits], 5)] == [
        "One is here.",
        "Three is gone.",
        "Four stays.",
    ]


async def test_joining_ends_where_reading_would() -> None:
    text = " ".join(f"word{number}" for number in range(50))
    hits = [hit(n * 10, n * 10 + 10, n, 0.5, text=text) for n in range(7)]
    assert [one.last - one.first + 1 for one in await passages([hits], 9)] == [3, 3, 1]


async def test_what_says_the_same_is_dropped() -> None:
    text = "The quick brown fox jumps over the lazy dog and then it goes to sleep in the sun. " * 3
    hits = [
        hit(0, 200, 0, 0.9, document="a", text=text),
        hit(0, 200, 0, 0.8, document="b", text=text),
        hit(0, 200, 0, 0.7, document="c", text=text.replace("fox", "cat").replace("lazy", "old")),
    ]
    assert [one.document for one in await passages([hits], 5)] == ["a", "c"]


async def test_collections_are_ranked_on_one_scale() -> None:
    good = [hit(0, 12, 0, 1.0, document="b", similarity=0.9, text_score=9.0)]
    bad = [hit(13, 26, 0, 1.0, document="a", similarity=0.1, text_score=0.5)]
    found = await passages([bad, good], 5)
    assert [one.document for one in found] == ["b", "a"]
    assert [one.score for one in found] == pytest.approx([1.0, 0.0])


async def test_diversity_prefers_what_is_unlike() -> None:
    rows = {"a": [1.0, 0.0], "b": [0.99, 0.14], "c": [0.0, 1.0]}
    hits = [
        hit(n * 13, n * 13 + 12, 0, score, document=name, vector=np.array(rows[name], "f4"))
        for n, (name, score) in enumerate([("a", 0.9), ("b", 0.89), ("c", 0.6)])
    ]
    assert [one.document for one in await passages([hits], 2)] == ["a", "b"]
    assert [one.document for one in await passages([hits], 2, diversity=0.5)] == ["a", "c"]


async def test_nothing_found_is_nothing() -> None:
    assert await passages([[], []], 5) == []
    assert best_similarity([[], []]) == 0.0


def test_each_collection_is_queried_by_vector_and_text() -> None:
    vectors = Vectors(np.ones((1, 4), np.float32), "model", "digest")
    first, second = build_queries(
        [DocumentCollection("a"), DocumentCollection("b")], "x" * 9000, vectors, 8, with_vector=True
    )
    assert (first.collection, second.collection) == ("documents-a", "documents-b")
    assert (first.limit, first.depth) == (8 * HITS_PER_PASSAGE, HYBRID_DEPTH)
    assert (len(first.text), first.with_text, first.with_vector) == (
        MAX_TEXT_CHARACTERS,
        True,
        True,
    )
    assert build_queries([DocumentCollection("a")], "", vectors, 1000)[0].limit == MAX_HITS


def test_the_nearest_hit_of_all_collections_counts() -> None:
    assert best_similarity([[hit(0, 12, 0, 0.3)], [hit(0, 12, 0, 0.7)], []]) == 0.7


async def test_a_question_alone_is_embedded_once() -> None:
    embedder = FakeEmbedder()
    vectors = await embed_question(embedder, Question("And the otter?", ["c"]))
    assert vectors.search is vectors.in_context
    assert vectors.search.rows.shape == (1, DIMENSIONS)


async def test_a_follow_up_question_is_embedded_with_and_without_its_context() -> None:
    embedder = FakeEmbedder()
    history = [("user", "Where does the heron wait?"), ("assistant", "There.")]
    question = Question("And the otter?", ["c"], history=history)
    both = await embedder.embed_queries([question.text, question.text_in_context])
    assert question.text_in_context == "Where does the heron wait?\nAnd the otter?"
    vectors = await embed_question(embedder, question)
    assert (vectors.in_context.rows == both.rows[1:]).all()
    assert np.linalg.norm(vectors.search.rows[0]) == pytest.approx(1)
    assert (both.rows @ vectors.search.rows[0]).tolist() == pytest.approx(
        [np.sqrt((1 + both.rows[0] @ both.rows[1]) / 2)] * 2, abs=1e-6
    )
