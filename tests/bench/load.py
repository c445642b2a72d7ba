"""Load generators for the embedder, each in its own process.

They share the processors with the server, but not its interpreter, its libraries or its memory.
"""

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, TypeVar

import grpc
import numpy as np
import uvloop
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from tests.embedder_process import request

WORDS = "what how why best way learn cook buy car phone india travel work money time life".split()
BULK = embedder_pb2.PRIORITY_BULK
WARM_UP = 256
MIN_RESPONSE_BYTES = 384 * 4
Channel = grpc.aio.Channel
_OPTIONS = [("grpc.max_receive_message_length", 64 * 2**20)]
T = TypeVar("T")


def texts(start: int = 0) -> Iterator[str]:
    """Yield 900,000 questions of about the same length, repeatedly."""
    for n in itertools.count(start):
        words = WORDS[n % 16], WORDS[n // 16 % 16], WORDS[n // 256 % 16]
        yield f"{words[0]} is the {words[1]} {words[2]} to {100_000 + n % 900_000}?"


@dataclass
class LoadResult:
    """The measurements of a load generator; times are in seconds.

    Attributes:
        codes: calls by status code.
        retry_delays: refused calls that carried a retry delay.
        latencies: latencies of the calls that succeeded.
        inference: seconds in the model, for the calls that succeeded.
        seconds: duration of the whole load.
        cpu: processor time of the load generator itself.
    """

    codes: Counter[str] = field(default_factory=Counter)
    retry_delays: int = 0
    latencies: list[float] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0


def p99(values: Sequence[float]) -> float:
    return float(np.percentile(values, 99)) if values else float("nan")


class LoadProcess:
    """A process that generates load. Use as ``with LoadProcess() as process``."""

    def __enter__(self) -> "LoadProcess":
        self._pool = ProcessPoolExecutor(1, get_context("spawn"))
        self._pool.submit(os.getpid).result()
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown()

    def start(self, address: str, call: Callable[..., Awaitable[T]], *arguments: Any) -> Future[T]:
        return self._pool.submit(_run, address, call, *arguments)


def _run(address: str, call: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    async def connected() -> T:
        async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
            return await call(channel, *arguments)

    return uvloop.run(connected())


def _stub(channel: Channel) -> Any:
    return embedder_pb2_grpc.EmbedderServiceStub(channel)


async def single_texts(channel: Channel, count: int, start: int, callers: int = 64) -> LoadResult:
    """Embed ``count`` single texts with concurrent callers, after a warm-up that is not measured.

    Requests are serialised beforehand and responses are not parsed, so callers use little CPU.
    """
    embed: Any = channel.unary_unary("/memetwin.embedder.v1.EmbedderService/Embed")

    async def call_all(messages: list[bytes]) -> None:
        remaining = iter(messages)

        async def caller() -> None:
            for message in remaining:
                assert len(await embed(message, timeout=120)) > MIN_RESPONSE_BYTES

        await asyncio.gather(*(caller() for _ in range(callers)))

    fresh = texts(start)
    messages = [request([next(fresh)]).SerializeToString() for _ in range(WARM_UP + count)]
    await call_all(messages[:WARM_UP])
    return await _timed(call_all(messages[WARM_UP:]))


async def batches(channel: Channel, count: int, start: int, size: int = 256) -> LoadResult:
    """Embed one batch after another."""
    stub, fresh = _stub(channel), texts(start)

    async def call_all() -> None:
        for _ in range(count // size):
            await stub.Embed(request(list(itertools.islice(fresh, size))), timeout=120)

    return await _timed(call_all())


async def stream(channel: Channel, count: int, start: int, size: int = 256) -> LoadResult:
    """Embed a stream of batches."""
    stub, fresh = _stub(channel), texts(start)

    async def requests() -> AsyncIterator[Any]:
        for _ in range(count // size):
            batch = request(list(itertools.islice(fresh, size)), priority=BULK)
            yield embedder_pb2.EmbedStreamRequest(request=batch)

    async def call_all() -> None:
        async for reply in stub.EmbedStream(requests()):
            assert reply.HasField("response"), reply.error

    return await _timed(call_all())


async def _timed(work: Awaitable[None]) -> LoadResult:
    started, cpu = time.perf_counter(), time.process_time()
    await work
    return LoadResult(seconds=time.perf_counter() - started, cpu=time.process_time() - cpu)


async def constant_rate(
    channel: Channel, seconds: float, rate: float, size: int, start: int, *, bulk: bool = False
) -> LoadResult:
    """Send ``rate`` texts per second for ``seconds``, whether or not earlier calls have ended."""
    stub, fresh, started = _stub(channel), texts(start), time.monotonic()
    result, calls = LoadResult(), set[asyncio.Task[None]]()
    options = {"priority": BULK} if bulk else {}
    for number in itertools.count():
        due = started + number * size / rate
        if due > started + seconds:
            break
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(
            _call(stub, list(itertools.islice(fresh, size)), result, options)
        )
        calls.add(task)
        task.add_done_callback(calls.discard)
    await asyncio.gather(*calls)
    return result


async def _call(
    stub: Any, batch: Sequence[str], result: LoadResult, options: dict[str, Any]
) -> None:
    started = time.perf_counter()
    try:
        reply = await stub.Embed(request(batch, **options), timeout=30)
    except grpc.aio.AioRpcError as error:
        result.codes[error.code().name] += 1
        result.retry_delays += _has_retry_delay(error)
        return
    result.codes["OK"] += 1
    result.latencies.append(time.perf_counter() - started)
    result.inference.append(reply.timings.inference)


def _has_retry_delay(error: Any) -> bool:
    status = rpc_status.from_call(error)
    return bool(status) and any(
        one.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for one in status.details
    )
