"""The embedder under ten times the load it can serve, and what that does to those who wait."""

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from tests.bench.embedder import texts
from tests.embedder_process import EmbedderProcess, request

SECONDS = float(os.environ.get("SECONDS_OF_LOAD", "60"))
BATCH = 64
TIMES_BULK, SHARE_INTERACTIVE = 10.0, 0.2
BULK = embedder_pb2.PRIORITY_BULK


@dataclass
class Seen:
    """What one kind of caller saw; times are seconds."""

    codes: Counter[str] = field(default_factory=Counter)
    hints: int = 0
    times: list[float] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)

    def p99(self, values: Sequence[float]) -> float:
        return float(np.percentile(values, 99)) if values else float("nan")


async def call(stub: Any, batch: Sequence[str], seen: Seen, **options: Any) -> None:
    started = time.perf_counter()
    try:
        reply = await stub.Embed(request(batch, **options), timeout=30)
    except grpc.aio.AioRpcError as error:
        seen.codes[error.code().name] += 1
        seen.hints += _has_hint(error)
        return
    seen.codes["OK"] += 1
    seen.times.append(time.perf_counter() - started)
    seen.inference.append(reply.timings.inference)


def _has_hint(error: Any) -> bool:
    status = rpc_status.from_call(error)
    return bool(status) and any(
        one.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for one in status.details
    )


async def flow(stub: Any, fresh: Iterator[str], rate: float, size: int, **options: Any) -> Seen:
    """Call at a steady rate of texts a second, whatever becomes of the calls before."""
    seen, calls, started = Seen(), set[asyncio.Task[None]](), time.perf_counter()
    for number in itertools.count():
        due = started + number * size / rate
        if due > started + SECONDS:
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(call(stub, list(itertools.islice(fresh, size)), seen, **options))
        calls.add(task)
        task.add_done_callback(calls.discard)
    await asyncio.gather(*calls)
    return seen


async def memory(server: EmbedderProcess) -> tuple[float, float]:
    """Return MiB after a quarter of the time, and at its end."""
    await asyncio.sleep(SECONDS / 4)
    early = server.memory()
    await asyncio.sleep(SECONDS * 3 / 4)
    return early, server.memory()


async def capacity(stub: Any, fresh: Iterator[str]) -> float:
    """Return texts a second that the server computes for a few callers with batches."""
    seen, started = Seen(), time.perf_counter()
    for _ in range(4):
        batches = [list(itertools.islice(fresh, BATCH)) for _ in range(4)]
        await asyncio.gather(*(call(stub, batch, seen) for batch in batches))
    return 16 * BATCH / (time.perf_counter() - started)


async def measure(server: EmbedderProcess) -> None:
    options = [("grpc.max_receive_message_length", 64 * 2**20)]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        stub, fresh = embedder_pb2_grpc.EmbedderServiceStub(channel), texts()
        await capacity(stub, fresh)
        served = await capacity(stub, fresh)
        calm = await flow(stub, fresh, served * SHARE_INTERACTIVE, 1)
        bulk, interactive, (early, late) = await asyncio.gather(
            flow(stub, fresh, served * TIMES_BULK, BATCH, priority=BULK),
            flow(stub, fresh, served * SHARE_INTERACTIVE, 1),
            memory(server),
        )
        after = Seen()
        await call(stub, ["still there?"], after)
    refused = sum(bulk.codes.values()) - bulk.codes["OK"]
    computed = bulk.codes["OK"] * BATCH + interactive.codes["OK"]
    print(
        f"It computes {served:.0f} texts/s in batches of {BATCH}; for {SECONDS:.0f} s it was asked"
    )
    print(
        f"for {served * TIMES_BULK:.0f} as bulk and {served * SHARE_INTERACTIVE:.0f} one by one.\n"
    )
    print("| | |\n|---|---|")
    print(f"| bulk calls by code | {dict(bulk.codes)} |")
    print(f"| refusals with a hint | {bulk.hints} of {refused} |")
    print(f"| interactive calls by code | {dict(interactive.codes)} |")
    print(f"| texts/s computed meanwhile | {computed / SECONDS:.0f} |")
    print(f"| interactive p99 with no bulk, ms | {calm.p99(calm.times) * 1e3:.0f} |")
    print(f"| interactive p99 under load, ms | {interactive.p99(interactive.times) * 1e3:.0f} |")
    print(f"| a batch of bulk, p99 ms | {bulk.p99(bulk.inference) * 1e3:.0f} |")
    print(f"| resident memory at a quarter and at the end, MiB | {early:.0f}, {late:.0f} |")
    print(f"| afterwards | {dict(after.codes)} |")


def main() -> None:
    server = EmbedderProcess(os.environ | {"MEMETWIN_EMBED_CACHE": "0"})
    try:
        asyncio.run(measure(server))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
