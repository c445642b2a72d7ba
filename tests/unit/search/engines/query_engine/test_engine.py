"""Replies of a Query Engine as they were on the wire are read as they were meant."""

import json
from typing import Any

import hiredis
import numpy as np
import pytest

from services.search.engines.catalog import Index, Keys, Record
from services.search.engines.query_engine.engine import info_is_complete
from services.search.engines.query_engine.search import _Asked, pairs
from services.search.types import Collection, Query
from tests.conftest import data_folder, leave_out


@pytest.fixture(scope="module")
def replies() -> dict[str, Any]:
    """What was said to each command, by its note, in RESP2, as redis-py gives it."""
    file, found = data_folder() / "query_engine_replies.jsonl", {}
    if not file.exists():
        leave_out("replies of the Query Engine, which development data has")
    for line in file.read_text().splitlines():
        row = json.loads(line)
        reader = hiredis.Reader()
        reader.feed(row["resp2"].encode("latin-1"))
        found[row["note"]] = reader.gets()
    return found


def asked(**query: Any) -> _Asked:
    """A query to the collection whose keys are ``d:<id>``."""
    collection = Collection("c", 4, engine="query_engine").with_defaults("query_engine")
    record = Record(collection, index=Index())

    keys = Keys("", record)
    keys._documents = "d:"
    given = Query(collection, return_fields=frozenset(), **query)
    return _Asked(given, record, keys)


def test_the_index_of_a_collection_is_read(replies: dict[str, Any]) -> None:
    info = pairs(replies["index information"])
    assert info_is_complete(info)
    assert int(info["num_docs"]) == 4
    assert int(info["hash_indexing_failures"]) == 1
    assert float(info["total_index_memory_sz_mb"]) > 0


def test_hits_by_vector_are_read(replies: dict[str, Any]) -> None:
    one = asked(vector=np.array([1, 0.1, 0, 0], "<f4"))
    one.read(replies["KNN, HNSW, cosine: distance = 1 - cos"])
    ids = [key for key, _ in one.search.found]
    assert ids[:2] == ["3", "1"]
    assert one.search.distances[0] == pytest.approx(6.04391098022e-05)
    assert one.search.similarities[0] == pytest.approx(1 - 6.04391098022e-05)


def test_hits_by_words_are_read(replies: dict[str, Any]) -> None:
    one = asked(text="says")
    one.read(replies["text, BM25 scores"])
    assert one.search.found == [("1", 1.3365865943176911), ("2", 1.3365865943176911)]
