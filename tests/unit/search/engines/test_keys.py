import pytest

from services.search.engines.keys import Keys, record_key
from services.search.engines.record import Index, Record
from tests.fakes.search import collection


def keys() -> Keys:
    return Keys("p:", Record(collection(), created_ns=7, index=Index(1), building=Index(2)))


def test_all_keys_lie_in_the_hash_slot_of_the_collection() -> None:
    one = keys()
    assert one.record == record_key("p:", "c") == "p:search:{c}:record"
    assert one.lease == "p:search:{c}:lease"
    assert (one.vectors, one.newest_vectors) == (
        "p:search:{c}:7:vectors:1",
        "p:search:{c}:7:vectors:2",
    )
    assert one.search_index(Index(3)) == "p:search:{c}:7:index:3"


@pytest.mark.parametrize("document_id", ["a", "\0", "\\0", "a\\\\\0b", "é}{"])
def test_ids_are_read_back_from_keys(document_id: str) -> None:
    key = keys().document(document_id)
    assert "\0" not in key
    assert keys().document_id(key.encode()) == document_id


def test_scripts_get_the_keys_of_documents_last() -> None:
    assert keys().script_keys(["a", "b"]) == [
        "p:search:{c}:record",
        "p:search:{c}:7:ids",
        "p:search:{c}:7:expiries",
        "p:search:{c}:7:vectors:1",
        "p:search:{c}:7:vectors:2",
        "p:search:{c}:7:document:a",
        "p:search:{c}:7:document:b",
    ]
