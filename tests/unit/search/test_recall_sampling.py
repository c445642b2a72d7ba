import random
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.errors import Unavailable
from services.search.recall_sampling import RecallSampler, recall
from services.search.types import Hit, Query, Result
from tests.fakes.search import collection, vector


def result(*distances: float) -> Result:
    return Result([Hit(f"d{at}", 0, distance) for at, distance in enumerate(distances)])


def query(name: str = "sampled", **options: Any) -> Query:
    settings: dict[str, Any] = {"vector": vector(1, 0), "explain": True} | options
    return Query(collection(name=name), **settings)


@pytest.mark.parametrize(
    ("found", "exact", "expected"),
    [
        ((0.1, 0.2), (0.1, 0.2), 1.0),
        ((0.1, 0.3), (0.1, 0.2), 0.5),
        ((), (0.1, 0.2), 0.0),
        ((), (), 1.0),
        ((0.2000005, 0.1), (0.1, 0.2), 1.0),
        ((0.1, 0.1, 0.1), (0.1,), 1.0),
    ],
)
def test_recall_counts_hits_as_near_as_the_last_exact_one(
    found: Sequence[float], exact: Sequence[float], expected: float
) -> None:
    assert recall(result(*found), result(*exact)) == expected


class Exact:
    """Answers with one exact hit, and records the queries."""

    def __init__(self) -> None:
        self.queries: list[Query] = []

    async def search(self, queries: Sequence[Query]) -> list[Result]:
        self.queries += queries
        return [result(0.1) for _ in queries]


def sampler(share: float, exact: Exact) -> RecallSampler:
    return RecallSampler(share, exact.search, random.Random(0))


async def measured(one: RecallSampler) -> None:
    if one._running:
        await one._running


async def test_a_sampled_query_is_repeated_exactly_and_measured() -> None:
    exact = Exact()
    one = sampler(1.0, exact)
    one.sample([query("measured")], [result(0.1)])
    await measured(one)
    [repeated] = exact.queries
    assert (repeated.exact, repeated.explain, repeated.return_fields) == (True, False, frozenset())
    labels = {"collection": "measured"}
    assert REGISTRY.get_sample_value("memetwin_search_recall_count", labels) == 1
    assert REGISTRY.get_sample_value("memetwin_search_recall_sum", labels) == 1.0


async def test_a_share_of_calls_is_sampled() -> None:
    exact = Exact()
    one = sampler(0.3, exact)
    for _ in range(200):
        one.sample([query()], [result(0.1)])
        await measured(one)
    assert 40 <= len(exact.queries) <= 80
    never = sampler(0.0, Exact())
    never.sample([query()], [result(0.1)])
    assert never._running is None


@pytest.mark.parametrize(
    "options",
    [{"exact": True}, {"vector": None, "text": "a"}, {"group_by": "t"}, {"vector": None}],
)
async def test_only_approximate_vector_queries_are_measured(options: dict[str, Any]) -> None:
    one = sampler(1.0, Exact())
    one.sample([query(**options)], [result(0.1)])
    assert one._running is None


async def test_one_measurement_runs_at_a_time() -> None:
    exact = Exact()
    one = sampler(1.0, exact)
    one.sample([query()], [result(0.1)])
    one.sample([query()], [result(0.1)])
    await measured(one)
    assert len(exact.queries) == 1


async def test_a_failed_measurement_is_skipped() -> None:
    async def fail(queries: Sequence[Query]) -> list[Result]:
        raise Unavailable("REDIS_UNAVAILABLE", "")

    one = RecallSampler(1.0, fail, random.Random(0))
    one.sample([query("failed")], [result(0.1)])
    await measured(one)
    labels = {"collection": "failed"}
    assert REGISTRY.get_sample_value("memetwin_search_recall_count", labels) is None
