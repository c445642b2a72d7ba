import asyncio
from collections import Counter

import pytest

from services.errors import Unavailable
from services.search.engines.shards import merge, scatter, shard_names, shard_of
from services.search.types import Hit, Query, Result
from tests.fakes.search import collection, vector

COLLECTION = collection(shards=3)


def result(*pairs: tuple[str, float], reason: str = "", took: float = 0.0) -> Result:
    hits = [Hit(key, 1 - distance, distance) for key, distance in pairs]
    return Result(hits, took, reason, [f"VSIM {took}"])


def test_documents_are_spread_evenly_and_always_alike() -> None:
    assert shard_names(COLLECTION) == ["c#000", "c#001", "c#002"]
    counts = Counter(shard_of(COLLECTION, f"d{number}") for number in range(900))
    assert set(counts) == set(shard_names(COLLECTION))
    assert min(counts.values()) > 250
    assert shard_of(COLLECTION, "d0") == "c#000"


async def test_outcomes_come_back_in_the_order_of_the_items() -> None:
    started: list[str] = []
    all_started = asyncio.Event()

    async def operation(shard: str, items: list[int]) -> list[str]:
        started.append(shard)
        if len(started) == 3:
            all_started.set()
        await all_started.wait()
        return [f"{shard}:{item}" for item in items]

    items = list(range(20))
    outcomes = await scatter(COLLECTION, items, str, operation)
    assert outcomes == [f"{shard_of(COLLECTION, str(item))}:{item}" for item in items]


def test_hits_are_merged_by_distance() -> None:
    query = Query(COLLECTION, vector=vector(1, 0), limit=2, offset=1)
    merged = merge(
        query, [result(("a", 0.1), ("d", 0.4), took=1.0), result(("c", 0.3), ("b", 0.2))]
    )
    assert [hit.id for hit in merged.hits] == ["b", "c"]
    assert (merged.took, merged.partial_reason) == (1.0, "")
    assert merged.explanation == ["VSIM 1.0", "VSIM 0.0"]


def test_hits_of_a_text_are_merged_by_score_and_all_documents_by_id() -> None:
    first = Result([Hit("b", 0, 0, score=1.0)])
    second = Result([Hit("a", 0, 0, score=1.0), Hit("c", 0, 0, score=2.0)])
    by_text = merge(Query(COLLECTION, text="x"), [first, second])
    assert [hit.id for hit in by_text.hits] == ["c", "a", "b"]
    everything = merge(Query(COLLECTION), [first, second])
    assert [hit.id for hit in everything.hits] == ["a", "b", "c"]


def test_the_document_searched_by_is_left_out() -> None:
    query = Query(COLLECTION, document_id="a")
    assert [hit.id for hit in merge(query, [result(("a", 0.0), ("b", 0.1))]).hits] == ["b"]


def test_a_failed_shard_makes_the_result_partial() -> None:
    query = Query(COLLECTION, vector=vector(1, 0))
    away = Unavailable("REDIS_UNAVAILABLE", "")
    merged = merge(query, [away, result(("a", 0.1), reason="why"), result(reason="why")])
    assert [hit.id for hit in merged.hits] == ["a"]
    assert merged.partial_reason == "1 of 3 shards did not answer; why"
    with pytest.raises(Unavailable):
        merge(query, [away, away])
