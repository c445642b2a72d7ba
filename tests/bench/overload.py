"""Measures interactive calls while the embedder gets ten times the bulk load that it can serve.

The bulk load, the interactive load and the embedder each have their own process.
"""

import functools
import os
import time
from collections import Counter

from tests.bench import load
from tests.bench.load import Channel, LoadProcess, LoadResult, p99
from tests.embedder_process import EmbedderProcess

SECONDS = float(os.environ.get("SECONDS_OF_LOAD", "60"))
BATCH = 64
BULK_LOAD, INTERACTIVE_LOAD = 10.0, 0.2  # of the capacity


def capacity(server: EmbedderProcess, process: LoadProcess) -> float:
    """Return the texts per second that the embedder computes for one stream of batches."""
    counts = [32 * BATCH, 64 * BATCH]
    results = [process.start(server.address, load.stream, n, n, BATCH).result() for n in counts]
    return counts[-1] / results[-1].seconds


def measure(server: EmbedderProcess, interactive: LoadProcess, bulk: LoadProcess) -> None:
    texts_per_second = capacity(server, interactive)
    rate = texts_per_second * INTERACTIVE_LOAD
    interactive_load = functools.partial(interactive.start, server.address, load.constant_rate)
    idle: LoadResult = interactive_load(SECONDS, rate, 1, 100_000).result()
    bulk_future = bulk.start(
        server.address, bulk_load, SECONDS, texts_per_second * BULK_LOAD, BATCH, 400_000
    )
    interactive_future = interactive_load(SECONDS, rate, 1, 200_000)
    time.sleep(SECONDS / 4)
    early = server.memory()
    time.sleep(SECONDS * 3 / 4)
    late = server.memory()
    bulk_result, interactive_result = bulk_future.result(), interactive_future.result()
    after: Counter[str] = Counter(OK=server.embed(["a call after the load"]))
    show(texts_per_second, bulk_result, interactive_result)
    print(f"| interactive p99 without bulk work, ms | {p99(idle.latencies) * 1e3:.0f} |")
    print(f"| interactive p99 under load, ms | {p99(interactive_result.latencies) * 1e3:.0f} |")
    print(f"| bulk batch, p99 ms | {p99(bulk_result.inference) * 1e3:.0f} |")
    print(f"| resident memory at a quarter and at the end, MiB | {early:.0f}, {late:.0f} |")
    print(f"| afterwards | {dict(after)} |")


async def bulk_load(channel: Channel, *arguments: float) -> LoadResult:
    seconds, rate, size, start = arguments
    return await load.constant_rate(channel, seconds, rate, int(size), int(start), bulk=True)


def show(texts_per_second: float, bulk: LoadResult, interactive: LoadResult) -> None:
    refused = sum(bulk.codes.values()) - bulk.codes["OK"]
    computed = bulk.codes["OK"] * BATCH + interactive.codes["OK"]
    print(
        f"The embedder computes {texts_per_second:.0f} texts/s in batches of {BATCH}. For {SECONDS:.0f} s it was sent"
    )
    print(
        f"{texts_per_second * BULK_LOAD:.0f} texts/s as bulk and"
        f" {texts_per_second * INTERACTIVE_LOAD:.0f} as single interactive texts.\n"
    )
    print("| | |\n|---|---|")
    print(f"| bulk calls by code | {dict(bulk.codes)} |")
    print(f"| refusals with a retry delay | {bulk.retry_delays} of {refused} |")
    print(f"| interactive calls by code | {dict(interactive.codes)} |")
    print(f"| texts/s computed meanwhile | {computed / SECONDS:.0f} |")


def main() -> None:
    server = EmbedderProcess(os.environ | {"MEMETWIN_EMBED_CACHE": "0"})
    try:
        with LoadProcess() as interactive, LoadProcess() as bulk:
            measure(server, interactive, bulk)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
