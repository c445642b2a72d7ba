"""The forwarder between a real client and a real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services import grpc_channel
from services.errors import InvalidArgument, NotFound, Unavailable
from services.gateway.circuit_breaker import FAILURE_THRESHOLD
from services.gateway.forwarding import names
from services.gateway.forwarding.forwarder import Forwarder
from services.grpc_server import Server, ServiceSpec
from tests.refusals import read_refusal

SERVICE = search_pb2.DESCRIPTOR.services_by_name["SearchService"]


class Target(search_pb2_grpc.SearchServiceServicer):
    """A service that records its requests."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.timeouts: list[float] = []
        self.waiting, self.cancelled = asyncio.Event(), asyncio.Event()

    async def Search(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        self.timeouts.append(context.time_remaining())
        if request.collection == "own-absent":
            raise NotFound("COLLECTION_NOT_FOUND", "own-absent is not there.", field="collection")
        if request.collection == "own-gone":
            raise Unavailable("NEIGHBOUR_UNAVAILABLE", "Its node is gone.")
        if request.collection == "own-slow":
            await self.wait()
        return search_pb2.SearchResponse(results=[search_pb2.Result(explanation=["own-x"])])

    async def ExportCollection(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        for name in ("own-a", "own-b"):
            yield search_pb2.ExportCollectionResponse(collection=search_pb2.Collection(name=name))
        if request.collection == "own-slow":
            await self.wait()

    async def UpsertStream(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for request in requests:
            self.requests.append(request)
            yield search_pb2.UpsertStreamResponse(
                receipts=[search_pb2.Receipt(id=request.collection)]
            )

    async def ImportCollection(self, requests: Any, context: Any) -> Any:  # noqa: N802
        self.requests += [one async for one in requests]
        return search_pb2.ImportCollectionResponse(created=len(self.requests))

    async def wait(self) -> None:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


class Prefix:
    """Puts ``own-`` before the names of requests, and removes it from those of responses."""

    async def request(self, message: Any) -> Any:
        names.translate(message, self.to_service)
        return message

    async def response(self, message: Any) -> Any:
        if not isinstance(message, bytes):
            names.translate(message, lambda name, _: name.removeprefix("own-"))
        return message

    def to_service(self, name: str, path: str) -> str:
        if name == "bad":
            raise InvalidArgument("BAD_NAME", "The name is bad.", field=path)
        return f"own-{name}"


class Forwarded:
    def __init__(self, target: Target, stub: Any) -> None:
        self.target, self.stub = target, stub


@pytest.fixture
async def forwarded() -> AsyncIterator[Forwarded]:
    target = Target()  # type: ignore[abstract]

    async def ready() -> bool:
        return True

    async def translation() -> Prefix:
        return Prefix()

    def register(server: Any) -> None:
        search_pb2_grpc.add_SearchServiceServicer_to_server(target, server)

    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        behind = await enter(
            Server([ServiceSpec(SERVICE.full_name, register, ready)], "127.0.0.1:0")
        )
        channel = await enter(grpc_channel.dial(f"127.0.0.1:{behind.port}"))
        forwarder = Forwarder(SERVICE, channel, "search", translation, names.have_names)
        spec = ServiceSpec(forwarder.name, forwarder.register, ready)
        front = await enter(Server([spec], "127.0.0.1:0"))
        callers = await enter(grpc_channel.dial(f"127.0.0.1:{front.port}"))
        yield Forwarded(target, search_pb2_grpc.SearchServiceStub(callers))


async def failed(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """The code, the reason and the message of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await finish(call)
    code, reason, _ = read_refusal(caught.value)
    return code, reason, caught.value.details() or ""


async def finish(call: Any) -> None:
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    else:
        await call


async def test_a_call_with_its_deadline(forwarded: Forwarded) -> None:
    request = search_pb2.SearchRequest(collection="a", model_digest="d")
    reply = await forwarded.stub.Search(request, timeout=7)
    assert reply.results[0].explanation == ["own-x"]  # responses without names stay bytes
    [received] = forwarded.target.requests
    assert (received.collection, received.model_digest) == ("own-a", "d")
    assert 5 < forwarded.target.timeouts[0] < 7


async def test_streams_of_each_kind(forwarded: Forwarded) -> None:
    stub = forwarded.stub
    exported = stub.ExportCollection(search_pb2.ExportCollectionRequest(collection="x"))
    assert [part.collection.name async for part in exported] == ["a", "b"]
    upserts = stub.UpsertStream()
    for name in ("one", "two"):  # each response arrives before the next request
        await upserts.write(search_pb2.UpsertStreamRequest(collection=name))
        assert (await upserts.read()).receipts[0].id == f"own-{name}"
    await upserts.done_writing()
    assert await upserts.read() == grpc.aio.EOF
    forwarded.target.requests.clear()
    parts = [search_pb2.ImportCollectionRequest(collection=search_pb2.Collection(name="c"))] * 3
    assert (await stub.ImportCollection(iter(parts))).created == 3
    assert {one.collection.name for one in forwarded.target.requests} == {"own-c"}


async def test_failures_reach_the_caller(forwarded: Forwarded) -> None:
    stub = forwarded.stub
    absent = await failed(stub.Search(search_pb2.SearchRequest(collection="absent")))
    not_found = grpc.StatusCode.NOT_FOUND
    assert absent == (not_found, "COLLECTION_NOT_FOUND", "own-absent is not there.")
    bad = (grpc.StatusCode.INVALID_ARGUMENT, "BAD_NAME", "The name is bad.")
    assert await failed(stub.Search(search_pb2.SearchRequest(collection="bad"))) == bad
    upserts = [search_pb2.UpsertStreamRequest(collection=name) for name in ("good", "bad")]
    assert await failed(stub.UpsertStream(iter(upserts))) == bad
    part = search_pb2.ImportCollectionRequest(collection=search_pb2.Collection(name="bad"))
    assert await failed(stub.ImportCollection(iter([part]))) == bad


@pytest.mark.parametrize("method", ["Search", "ExportCollection"])
async def test_a_cancelled_call_is_cancelled_behind_the_gateway(
    forwarded: Forwarded, method: str
) -> None:
    request = {
        "Search": search_pb2.SearchRequest(collection="slow"),
        "ExportCollection": search_pb2.ExportCollectionRequest(collection="slow"),
    }[method]
    call = getattr(forwarded.stub, method)(request)
    if method == "ExportCollection":
        assert (await call.read()).collection.name == "a"
    await asyncio.wait_for(forwarded.target.waiting.wait(), 30)
    call.cancel()
    await asyncio.wait_for(forwarded.target.cancelled.wait(), 30)


async def test_failing_calls_of_one_caller_do_not_refuse_those_of_others(
    forwarded: Forwarded,
) -> None:
    for _ in range(FAILURE_THRESHOLD + 1):
        request = search_pb2.SearchRequest(collection="gone")
        code, *_ = await failed(forwarded.stub.Search(request, timeout=30))
        assert code is grpc.StatusCode.UNAVAILABLE
    reply = await forwarded.stub.Search(search_pb2.SearchRequest(collection="a"), timeout=30)
    assert len(reply.results) == 1
