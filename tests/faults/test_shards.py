"""A sharded collection on a real cluster works as on one node, and after the loss of a node."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests.redis_server import RedisServer
from tests.redis_topologies import Cluster
from tests.refusals import refused
from tests.search_service import SearchService
from tests.stack import wait_until

# redis-py does not close connections to nodes that are lost.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
ROWS = np.random.default_rng(0).normal(size=(900, 16)).astype("<f4")
FIELD = search_pb2.Field(name="n", type=search_pb2.FIELD_TYPE_NUMBER)


@pytest.fixture
def cluster(request: Any, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, full_coverage=getattr(request, "param", False))
    yield cluster
    cluster.stop()


@pytest.fixture
def stub(cluster: Cluster) -> Iterator[Any]:
    service = SearchService(cluster.url)
    yield search_pb2_grpc.SearchServiceStub(service.channel)
    service.close()


def fill(stub: Any, name: str, metric: Any = search_pb2.METRIC_COSINE, shards: int = 6) -> None:
    collection = search_pb2.Collection(
        name=name, dimensions=16, fields=[FIELD], metric=metric, shards=shards
    )
    stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))
    documents = [
        search_pb2.Document(
            id=f"d{number}",
            vector=row.tobytes(),
            fields={"n": search_pb2.FieldValue(number=float(number % 10))},
        )
        for number, row in enumerate(ROWS)
    ]
    for first in range(0, len(documents), 300):
        request = search_pb2.UpsertDocumentsRequest(
            collection=name, documents=documents[first : first + 300]
        )
        assert stub.UpsertDocuments(request).created == 300


def ask(stub: Any, name: str, **options: Any) -> list[Any]:
    queries = [
        search_pb2.Query(vector=row.tobytes(), exact=True, limit=7, **options) for row in ROWS[:20]
    ]
    request = search_pb2.SearchRequest(collection=name, queries=queries)
    return list(stub.Search(request, timeout=20).results)


def hits(results: list[Any]) -> list[Any]:
    return [
        [(hit.id, pytest.approx(hit.similarity, abs=1e-6)) for hit in one.hits] for one in results
    ]


def below(bound: float) -> search_pb2.Filter:
    number = search_pb2.NumberCondition(field="n", op=search_pb2.NUMBER_OPERATOR_LT, values=[bound])
    return search_pb2.Filter(number=number)


@pytest.mark.parametrize("metric", [search_pb2.METRIC_COSINE, search_pb2.METRIC_L2])
def test_results_equal_those_of_one_node(stub: Any, tmp_path: Path, metric: Any) -> None:
    server = RedisServer(tmp_path)
    service = SearchService(server.url)
    alone = search_pb2_grpc.SearchServiceStub(service.channel)
    try:
        for one, shards in ((stub, 6), (alone, 1)):
            fill(one, "c", metric, shards)
        for options in ({}, {"filter": below(3)}, {"offset": 5}):
            assert hits(ask(stub, "c", **options)) == hits(ask(alone, "c", **options))
        everything = search_pb2.ListDocumentsRequest(collection="c", page_size=1000)
        assert stub.ListDocuments(everything) == alone.ListDocuments(everything)
        by_id = search_pb2.Query(document_id="d5", exact=True)
        request = search_pb2.SearchRequest(collection="c", queries=[by_id])
        found, expected = (list(one.Search(request).results) for one in (stub, alone))
        assert hits(found) == hits(expected)
    finally:
        service.close()
        server.stop()


def test_documents_are_updated_in_every_shard(stub: Any) -> None:
    fill(stub, "c")
    ids = [f"d{number}" for number in range(50)]
    got = stub.GetDocuments(search_pb2.GetDocumentsRequest(collection="c", ids=[*ids, "none"]))
    assert [one.id for one in got.documents] == ids
    assert list(got.missing) == ["none"]
    updates = [
        search_pb2.FieldsUpdate(id=key, fields={"n": search_pb2.FieldValue(number=99.0)})
        for key in ids
    ]
    stub.UpdateFields(search_pb2.UpdateFieldsRequest(collection="c", updates=updates))
    grown = search_pb2.UpdateCollectionRequest(
        name="c", add_fields=[search_pb2.Field(name="kind", type=search_pb2.FIELD_TYPE_TAG)]
    )
    described = stub.UpdateCollection(grown).collection
    assert (described.document_count, described.shards) == (900, 6)
    assert [field.name for field in described.fields] == ["n", "kind"]
    kindless = search_pb2.Filter(exists=search_pb2.ExistsCondition(field="kind"))
    missing = search_pb2.Filter(none_of=search_pb2.Filters(filters=[kindless]))
    listed = stub.ListDocuments(
        search_pb2.ListDocumentsRequest(collection="c", filter=missing, page_size=1000)
    )
    assert len(listed.documents) == 900
    selected = search_pb2.DeleteDocumentsRequest(collection="c", filter=below(98), force=True)
    assert stub.DeleteDocuments(selected).deleted == 850
    assert (
        stub.GetCollection(search_pb2.GetCollectionRequest(name="c")).collection.document_count
        == 50
    )
    stub.DeleteCollection(search_pb2.DeleteCollectionRequest(name="c"))
    with refused(grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND"):
        ask(stub, "c")
    fill(stub, "c")


def test_results_are_partial_while_a_node_is_lost(stub: Any, cluster: Cluster) -> None:
    names = [f"c{number}" for number in range(3)]
    for name in names:
        fill(stub, name)
    complete = {name: hits(ask(stub, name)) for name in names}
    fresh = SearchService(cluster.url)
    cluster.nodes[0].kill()
    try:
        # A service without cached records finds all collections too.
        for one in (stub, search_pb2_grpc.SearchServiceStub(fresh.channel)):
            for name in names:
                wait_until(partial(_is_partial, one, name))
    finally:
        fresh.close()
    cluster.nodes[0].start()
    for name in names:
        wait_until(partial(_is_complete, stub, name, complete[name]))
    listed = stub.ListCollections(search_pb2.ListCollectionsRequest()).collections
    assert [one.name for one in listed] == names


def _is_partial(stub: Any, name: str) -> bool:
    results = ask(stub, name)
    assert all(result.hits for result in results)
    return all("shards did not answer" in one.partial_reason and one.partial for one in results)


def _is_complete(stub: Any, name: str, expected: Any) -> bool:
    results = ask(stub, name)
    return not any(one.partial for one in results) and hits(results) == expected


@pytest.mark.parametrize("cluster", [True], indirect=True, ids=["full coverage"])
def test_a_cluster_that_requires_full_coverage_is_unavailable_without_a_node(
    stub: Any, cluster: Cluster
) -> None:
    fill(stub, "c")
    cluster.nodes[0].kill()

    def is_unavailable() -> bool:
        try:
            ask(stub, "c")
        except grpc.RpcError as error:
            return bool(error.code() == grpc.StatusCode.UNAVAILABLE)
        return False

    wait_until(is_unavailable)
