"""More calls than an embedder can compute: each gets a result, or a refusal with a retry delay."""

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
TIMEOUT = 300.0  # calls must not hang, but a busy machine is slow


def test_a_flood_is_refused_with_retry_delays_and_does_no_harm() -> None:
    embedder = EmbedderProcess(
        os.environ | {"MEMETWIN_QUEUE_TOKENS": "4000", "MEMETWIN_EMBED_CACHE": "0"}
    )

    def call(_: int) -> Any:
        return embedder.stub.Embed.future(
            request(TEXTS, priority=embedder_pb2.PRIORITY_BULK), timeout=TIMEOUT
        )

    try:
        before = embedder.memory()
        with ThreadPoolExecutor(32) as pool:
            calls = [one for one in pool.map(call, range(400)) if one.code()]
        refused = [one for one in calls if one.code() == grpc.StatusCode.RESOURCE_EXHAUSTED]
        succeeded = [one for one in calls if one.code() == grpc.StatusCode.OK]
        assert len(refused) + len(succeeded) == len(calls) == 400
        assert refused
        assert succeeded
        for one in refused:
            details = rpc_status.from_call(one).details
            assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in details)
        for one in succeeded:
            assert len(one.result().vectors) == 64 * 384 * 4
        assert embedder.embed(["a call after the flood"])
        assert embedder.memory() < before * 1.5
    finally:
        embedder.stop()


def test_thousands_of_concurrent_calls_all_get_a_response() -> None:
    embedder = EmbedderProcess(os.environ)

    async def flood() -> Counter[str]:
        codes = Counter[str]()
        async with grpc.aio.insecure_channel(embedder.address) as channel:
            stub: Any = embedder_pb2_grpc.EmbedderServiceStub(channel)

            async def call(number: int) -> None:
                try:
                    await stub.Embed(request([TEXTS[number % 64]]), timeout=TIMEOUT)
                    codes["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    codes[error.code().name] += 1

            await asyncio.gather(*map(call, range(6000)))
        return codes

    try:
        codes = asyncio.run(flood())
    finally:
        embedder.stop()
    assert codes["OK"] > 0
    assert codes["OK"] + codes["RESOURCE_EXHAUSTED"] == 6000
