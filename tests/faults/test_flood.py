"""More calls than an embedder can serve: each gets a result or a refusal with a hint."""

import asyncio
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from tests.embedder_process import EmbedderProcess, request

TEXTS = [f"text number {number} of a flood" for number in range(64)]


def test_a_flood_is_refused_with_hints_and_leaves_the_embedder_whole() -> None:
    server = EmbedderProcess(
        os.environ | {"MEMETWIN_QUEUE_TOKENS": "4000", "MEMETWIN_EMBED_CACHE": "0"}
    )

    def call(_: int) -> Any:
        return server.stub.Embed.future(
            request(TEXTS, priority=embedder_pb2.PRIORITY_BULK), timeout=60
        )

    try:
        before = server.memory()
        with ThreadPoolExecutor(32) as pool:
            calls = [done for done in pool.map(call, range(400)) if done.code()]
        refused = [one for one in calls if one.code() == grpc.StatusCode.RESOURCE_EXHAUSTED]
        served = [one for one in calls if one.code() == grpc.StatusCode.OK]
        assert len(refused) + len(served) == len(calls) == 400
        assert refused
        assert served
        for one in refused:
            details = rpc_status.from_call(one).details
            assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in details)
        for one in served:
            assert len(one.result().vectors) == 64 * 384 * 4
        assert server.embed(["still there?"])
        assert server.memory() < before * 1.5
    finally:
        server.stop()


def test_thousands_of_calls_at_once_are_all_answered() -> None:
    server = EmbedderProcess(os.environ)

    async def ask() -> Counter[str]:
        codes = Counter[str]()
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: Any = embedder_pb2_grpc.EmbedderServiceStub(channel)

            async def call(number: int) -> None:
                try:
                    await stub.Embed(request([TEXTS[number % 64]]), timeout=120)
                    codes["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    codes[error.code().name] += 1

            await asyncio.gather(*map(call, range(6000)))
        return codes

    try:
        codes = asyncio.run(ask())
    finally:
        server.stop()
    assert codes["OK"] > 1000
    assert codes["OK"] + codes["RESOURCE_EXHAUSTED"] == 6000
