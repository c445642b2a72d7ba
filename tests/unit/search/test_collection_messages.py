from typing import Any

import pytest

from memetwin.search.v1 import search_pb2
from services.errors import Failure
from services.search.collection_messages import (
    read_collection,
    read_declared_fields,
    read_reindex,
    write_collection,
    write_server,
)
from services.search.engines.server import Server
from services.search.types import Collection, CollectionInfo


def read(**options: Any) -> Collection:
    return read_collection(search_pb2.Collection(name="c", dimensions=2, **options))


def test_a_collection_has_defaults() -> None:
    assert read() == Collection("c", 2, engine="")


@pytest.mark.parametrize(
    "options",
    [
        {"metric": search_pb2.METRIC_L2, "hnsw": {"m": 8, "ef_construction": 9, "ef_runtime": 7}},
        {"flat": {}, "index_text": False, "model_digest": "m"},
        {"fields": [{"name": "n", "type": search_pb2.FIELD_TYPE_GEO}], "shards": 3},
        {"quantization": search_pb2.QUANTIZATION_Q8, "reduced_dimensions": 1},
        {
            "svs_vamana": {"compression": "LVQ8", "search_window_size": 50},
            "vector_type": search_pb2.VECTOR_TYPE_FLOAT16,
            "engine": search_pb2.ENGINE_QUERY_ENGINE,
        },
    ],
)
def test_a_collection_is_written_as_it_was_read(options: Any) -> None:
    settings = {"engine": search_pb2.ENGINE_VECTOR_SETS} | options
    one = read(**settings)
    info = CollectionInfo(one, 5, 7, 2.0, ["warning"], ready=True, aliases=["a"])
    written = write_collection(info)
    assert (written.document_count, list(written.aliases)) == (5, ["a"])
    health = written.health
    assert (health.memory_bytes, health.max_norm, health.ready) == (7, 2.0, True)
    assert list(health.warnings) == ["warning"]
    assert read_collection(written) == one


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"metric": 99}, "UNKNOWN_METRIC"),
        ({"vector_type": 99}, "UNKNOWN_VECTOR_TYPE"),
        ({"quantization": 99}, "UNKNOWN_QUANTIZATION"),
        ({"engine": 99}, "UNKNOWN_ENGINE"),
        ({"fields": [{"name": "n", "type": 99}]}, "UNKNOWN_TYPE"),
        ({"svs_vamana": {"compression": "ZIP"}}, "BAD_SVS_VAMANA"),
        ({"svs_vamana": {"search_window_size": -1}}, "BAD_SVS_VAMANA"),
    ],
)
def test_unknown_values_are_refused(options: Any, reason: str) -> None:
    with pytest.raises(Failure) as caught:
        read(**options)
    assert caught.value.reason == reason


def test_a_field_is_declared_once() -> None:
    field = search_pb2.Field(name="n", type=search_pb2.FIELD_TYPE_TAG)
    assert read_declared_fields([field], "fields") == {"n": "tag"}
    with pytest.raises(Failure) as caught:
        read_declared_fields([field, field], "add_fields")
    assert (caught.value.reason, caught.value.field) == ("DUPLICATE_FIELD", "add_fields")


def test_a_reindex_names_only_what_changes() -> None:
    assert read_reindex(search_pb2.ReindexRequest()) == {}
    changes = read_reindex(search_pb2.ReindexRequest(metric=search_pb2.METRIC_IP))
    assert changes == {"metric": "ip"}
    flat = read_reindex(search_pb2.ReindexRequest(flat=search_pb2.FlatIndex()))
    assert flat["index"] == "flat"
    unknown = search_pb2.ReindexRequest(vector_type=99)  # type: ignore[arg-type]
    with pytest.raises(Failure):
        read_reindex(unknown)


def test_a_server_is_written() -> None:
    written = write_server(Server("8.10.1", True, False, False, ["warning"]))
    assert (written.version, written.vector_sets, written.query_engine) == ("8.10.1", True, False)
    assert list(written.warnings) == ["warning"]
