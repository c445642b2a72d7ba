"""The embedder under ten times the load it can serve, and what that does to those who wait.

Those who send bulk, those who wait and the embedder have a process each.
"""

import os
import time
from collections import Counter

from tests.bench import load
from tests.bench.load import Apart, Channel, Seen
from tests.embedder_process import EmbedderProcess

SECONDS = float(os.environ.get("SECONDS_OF_LOAD", "60"))
BATCH = 64
TIMES_BULK, SHARE_INTERACTIVE = 10.0, 0.2


def capacity(server: EmbedderProcess, apart: Apart) -> float:
    """Return texts a second that it computes for one who streams batches."""
    counts = [32 * BATCH, 64 * BATCH]
    seen = [apart.start(server.address, load.stream, n, n, BATCH).result() for n in counts]
    return counts[-1] / seen[-1].took


def measure(server: EmbedderProcess, some: Apart, others: Apart) -> None:
    served = capacity(server, some)
    alone = (SECONDS, served * SHARE_INTERACTIVE, 1)
    calm: Seen = some.start(server.address, load.flow, *alone, 100_000).result()
    flood = others.start(
        server.address, flood_of_bulk, SECONDS, served * TIMES_BULK, BATCH, 400_000
    )
    waiting = some.start(server.address, load.flow, *alone, 200_000)
    time.sleep(SECONDS / 4)
    early = server.memory()
    time.sleep(SECONDS * 3 / 4)
    late = server.memory()
    bulk, interactive = flood.result(), waiting.result()
    computed = bulk.codes["OK"] * BATCH + interactive.codes["OK"]
    after: Counter[str] = Counter(OK=server.embed(["still there?"]))
    show(served, bulk, interactive, computed)
    print(f"| interactive p99 with no bulk, ms | {calm.p99(calm.times) * 1e3:.0f} |")
    print(f"| interactive p99 under load, ms | {interactive.p99(interactive.times) * 1e3:.0f} |")
    print(f"| a batch of bulk, p99 ms | {bulk.p99(bulk.inference) * 1e3:.0f} |")
    print(f"| resident memory at a quarter and at the end, MiB | {early:.0f}, {late:.0f} |")
    print(f"| afterwards | {dict(after)} |")


async def flood_of_bulk(channel: Channel, *arguments: float) -> Seen:
    seconds, rate, size, start = arguments
    return await load.flow(channel, seconds, rate, int(size), int(start), bulk=True)


def show(served: float, bulk: Seen, interactive: Seen, computed: int) -> None:
    refused = sum(bulk.codes.values()) - bulk.codes["OK"]
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


def main() -> None:
    server = EmbedderProcess(os.environ | {"MEMETWIN_EMBED_CACHE": "0"})
    try:
        with Apart() as some, Apart() as others:
            measure(server, some, others)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
