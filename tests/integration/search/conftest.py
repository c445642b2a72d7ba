"""Runs every test of search on each engine that the server has."""

from typing import Any

import pytest
import redis

from memetwin.search.v1 import search_pb2
from tests.conftest import note_left_out
from tests.search_client import Stub
from tests.stack import Stack


@pytest.fixture(scope="module", params=["query_engine", "vector_sets"])
def engine(request: Any, redis_url: str) -> Any:
    client: Any = redis.Redis.from_url(redis_url)
    with client:
        client.response_callbacks.pop("COMMAND", None)  # redis-py fails on unknown commands
        command = "FT.SEARCH" if request.param == "query_engine" else "VSIM"
        [known] = client.execute_command("COMMAND", "INFO", command)
    if not known:
        note_left_out(f"{command}, which the Redis of this run does not have")
        pytest.skip(f"no {command}")
    return search_pb2.Engine.Value(f"ENGINE_{request.param.upper()}")


@pytest.fixture(scope="module")
def stub(stack: Stack, engine: Any) -> Stub:
    stub = Stub(stack.search)
    stub.engine = engine  # type: ignore[attr-defined]
    return stub
