import asyncio

import pytest

from memetwin.embedder.v1 import embedder_pb2
from memetwin.gateway.v1 import cache_pb2, chat_pb2, rag_pb2, twin_pb2
from memetwin.search.v1 import search_pb2
from services import deadlines
from services.errors import DeadlineExceeded

CONTRACT = (embedder_pb2, search_pb2, cache_pb2, chat_pb2, rag_pb2, twin_pb2)


def test_every_long_call_is_an_rpc() -> None:
    rpcs = {
        method
        for module in CONTRACT
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods_by_name
    }
    assert set(deadlines.LONG_CALLS) <= rpcs


def test_a_calls_default_timeout_depends_on_its_method() -> None:
    assert deadlines.default_timeout("/memetwin.gateway.v1.RagService/Ask") == 300
    assert deadlines.default_timeout("/memetwin.search.v1.SearchService/Search") == 30
    assert deadlines.default_timeout("/grpc.health.v1.Health/Watch") is None
    assert deadlines.default_timeout("/grpc.reflection.v1.ServerReflection/Info") is None


def test_outside_of_a_call_there_is_no_deadline() -> None:
    assert deadlines.time_left() is None
    assert not deadlines.expired()


def test_the_time_left_keeps_a_margin() -> None:
    with deadlines.limit(1000):
        left, less = deadlines.time_left(), deadlines.time_left(margin=500)
        assert left is not None
        assert less is not None
        assert 500 < left < 1000
        assert less < 500
    assert deadlines.time_left() is None


def test_no_time_left_is_a_failure() -> None:
    with deadlines.limit(0), pytest.raises(DeadlineExceeded):
        deadlines.time_left()
    with deadlines.limit(-1):
        assert deadlines.expired()


async def test_a_started_deadline_holds_for_the_task_alone() -> None:
    async def call() -> float | None:
        deadlines.start(1000)
        return deadlines.time_left()

    assert await asyncio.create_task(call()) is not None
    assert deadlines.time_left() is None
