from typing import Any

import pytest

from services.search.index_defaults import with_index_changes
from tests.fakes.search import collection


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (16, 200, 200)),
        ({"metric": "ip"}, (16, 200, 1000)),
        ({"metric": "l2"}, (16, 200, 200)),
        ({"metric": "l2", "engine": "query_engine"}, (48, 500, 400)),
        ({"metric": "ip", "engine": "query_engine"}, (16, 200, 200)),
        ({"m": 5, "ef_construction": 6, "ef_runtime": 7}, (5, 6, 7)),
    ],
)
def test_defaults_depend_on_metric_and_engine(options: Any, expected: tuple[int, ...]) -> None:
    one = collection(**options)
    assert (one.m, one.ef_construction, one.ef_runtime) == expected


def test_a_reindex_keeps_what_was_set_and_renews_defaults() -> None:
    changed = with_index_changes(collection(m=20), {"metric": "ip"})
    assert (changed.metric, changed.m, changed.ef_runtime) == ("ip", 20, 1000)
    explicit = with_index_changes(collection(ef_runtime=77), {"metric": "ip"})
    assert explicit.ef_runtime == 77
