"""Search with broken connections, after a failover of a sentinel, and on a cluster."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests.redis_server import RedisServer
from tests.redis_topologies import Cluster, Sentinels
from tests.search_service import SearchService
from tests.stack import wait_until

# redis-py does not close connections to nodes that are lost.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
VECTORS = np.eye(4, dtype="<f4")


def fill(stub: Any, name: str, **options: Any) -> None:
    collection = search_pb2.Collection(name=name, dimensions=4, **options)
    stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))
    documents = [
        search_pb2.Document(id=f"d{number}", vector=row.tobytes(), text="a story")
        for number, row in enumerate(VECTORS)
    ]
    stub.UpsertDocuments(search_pb2.UpsertDocumentsRequest(collection=name, documents=documents))


def nearest(stub: Any, name: str) -> list[str]:
    query = search_pb2.Query(vector=VECTORS[1].tobytes(), limit=2)
    request = search_pb2.SearchRequest(collection=name, queries=[query])
    return [hit.id for hit in stub.Search(request, timeout=20).results[0].hits]


@pytest.fixture
def stub(request: Any, tmp_path: Path) -> Iterator[Any]:
    """Search on the deployment that the test names; ``stub.servers`` are its servers."""
    servers = request.param(tmp_path)
    service = SearchService(servers.url)
    stub: Any = search_pb2_grpc.SearchServiceStub(service.channel)
    stub.servers = servers
    yield stub
    service.close()
    servers.stop()


@pytest.mark.parametrize("stub", [RedisServer], indirect=True, ids=["one server"])
def test_a_search_succeeds_after_its_connections_were_killed(stub: Any) -> None:
    fill(stub, "c")
    for _ in range(5):
        with stub.servers.client() as client:
            client.execute_command("CLIENT KILL TYPE normal SKIPME yes")
        assert nearest(stub, "c")[0] == "d1"


@pytest.mark.parametrize("stub", [Sentinels], indirect=True)
def test_a_search_follows_the_failover_of_a_sentinel(stub: Any) -> None:
    fill(stub, "c")
    stub.servers.replica.wait_for(lambda client: client.exists("memetwin:search:{c}:record"))
    stub.servers.master.kill()
    stub.servers.replica.wait_for(lambda client: client.info()["role"] == "master")
    # The sentinel announces the new master a moment later.
    wait_until(lambda: nearest(stub, "c")[0] == "d1")
    fill(stub, "another")
    assert nearest(stub, "another")[0] == "d1"


@pytest.mark.parametrize("stub", [Cluster], indirect=True)
def test_collections_are_spread_over_the_nodes_of_a_cluster(stub: Any) -> None:
    for number in range(6):
        fill(stub, f"c{number}")
        assert nearest(stub, f"c{number}")[0] == "d1"
    listed = stub.ListCollections(search_pb2.ListCollectionsRequest()).collections
    assert [one.name for one in listed] == [f"c{number}" for number in range(6)]
    sizes = []
    for node in stub.servers.nodes:
        with node.client() as client:
            sizes.append(client.dbsize())
    assert min(sizes) > 5
    everything = search_pb2.Query(text="story")
    reply = stub.Search(search_pb2.SearchRequest(collection="c3", queries=[everything]))
    assert len(reply.results[0].hits) == 4
