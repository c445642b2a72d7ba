import json

from services.search.engines.record import Index, Record, dump_record, load_record
from services.search.metric_transforms import EuclideanTransform, InnerProductTransform
from tests.fakes.search import collection

STORED = (
    b'{"collection":{"name":"c","dimensions":2,"metric":"ip","index":"hnsw","m":16,'
    b'"ef_construction":200,"ef_runtime":1000,"quantization":"none","fields":{"born":"number"},'
    b'"model_digest":"","engine":"vector_sets","index_text":true,"vector_type":"float32",'
    b'"svs":{},"reduced":1,"shards":0},"born":7,"version":3,'
    b'"index":{"generation":1,"max_norm":2.0,"scale":1.0},"building":null,"target":null,'
    b'"expiring":true,"average_length":1.5,"analysis":2}'
)


def test_records_are_stored_under_the_names_of_live_data() -> None:
    record = load_record(STORED, 3)
    assert record == Record(
        collection(metric="ip", reduced_dimensions=1, fields={"born": "number"}),
        created_ns=7,
        version=3,
        index=Index(1, 2.0, 1.0),
        expiring=True,
        average_length=1.5,
        analysis=2,
    )
    assert json.loads(dump_record(record)) == json.loads(STORED)


def test_a_running_change_is_stored_too() -> None:
    record = Record(
        collection(),
        index=Index(1),
        building=Index(2, 3.0, 0.5),
        target=collection(metric="l2", reduced_dimensions=1),
    )
    assert load_record(dump_record(record).encode(), 0) == record


def test_records_of_earlier_versions_lack_attributes() -> None:
    data = json.loads(STORED)
    del data["target"], data["average_length"], data["collection"]["shards"]
    del data["analysis"]
    record = load_record(json.dumps(data).encode(), 4)
    assert record.analysis == 1
    assert (record.target, record.average_length, record.collection.shards) == (None, 0.0, 0)


def test_the_newest_index_is_the_one_being_built() -> None:
    plain = Record(collection(metric="ip"), index=Index(1, 2.0, 1.0))
    assert (plain.newest_index, plain.newest_collection) == (plain.index, plain.collection)
    assert plain.transform == plain.newest_transform == InnerProductTransform(2.0)
    target = collection(metric="l2")
    changing = Record(plain.collection, index=plain.index, building=Index(2, 3.0), target=target)
    assert (changing.newest_index.generation, changing.newest_collection) == (2, target)
    assert changing.transform == InnerProductTransform(2.0)
    assert changing.newest_transform == EuclideanTransform(3.0, 0.0)
