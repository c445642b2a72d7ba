"""Compares 10,000 random filters on random documents with plain Python, on each engine."""

import argparse
import tempfile
import uuid
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests.integration.search.test_filters import DOCUMENTS, FIELDS, FILTERS, assert_agree
from tests.redis_server import RedisServer
from tests.search_service import SearchService

EXAMPLES, FILTERS_PER_EXAMPLE = 1000, 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", help="use this Redis")
    url = parser.parse_args().redis
    print("| engine | filters | agree with plain Python |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        server = None if url else RedisServer(Path(folder))
        service = SearchService(url or server.url)  # type: ignore[union-attr]
        stub = search_pb2_grpc.SearchServiceStub(service.channel)
        for engine in ("VECTOR_SETS", "QUERY_ENGINE") if url else ("VECTOR_SETS",):
            measure(stub, engine)
        service.close()
        if server:
            server.stop()


def measure(stub: Any, engine: str) -> None:
    name = f"filters-{uuid.uuid4()}"
    fields = [search_pb2.Field(name=field, type=kind) for field, kind in FIELDS.items()]
    kind = search_pb2.Engine.Value(f"ENGINE_{engine}")
    created = search_pb2.Collection(name=name, dimensions=2, fields=fields, engine=kind)
    stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=created))
    compared = agreed = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        documents=st.lists(DOCUMENTS, min_size=1, max_size=12),
        conditions=st.lists(FILTERS, min_size=FILTERS_PER_EXAMPLE, max_size=FILTERS_PER_EXAMPLE),
    )
    def compare(documents: Any, conditions: Any) -> None:
        nonlocal compared, agreed
        compared += len(conditions)
        assert_agree(stub, name, documents, conditions)
        agreed += len(conditions)

    try:
        compare()
    finally:
        print(f"| {engine.replace('_', ' ').lower()} | {compared} | {agreed} |", flush=True)


if __name__ == "__main__":
    main()
