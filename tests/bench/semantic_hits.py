"""Measures how long semantic hits take under several bounds, beside the embedding of the question.

A cache holds one question of each of 400 held-out pairs of duplicates, and is asked the other one.
The calls of all bounds alternate. Each service has its own process, and nothing is cached in the
embedder.
"""

import contextlib
import functools
import os
import random
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from tests.bench.own_redis import redis_url
from tests.bench.table import held_out
from tests.embedder_process import EmbedderProcess
from tests.service_process import ServiceProcess

PAIRS, ROUNDS = 400, 3
SCOPE = cache_pb2.Scope(tenant="bench")
BOUNDS: dict[str, Any] = {
    "default": {},
    "max_error_rate .05": {"max_error_rate": 0.05},
    "min_similarity .7": {"min_similarity": 0.7},
    "min_similarity .95": {"min_similarity": 0.95},
}


def measure(stub: Any, embedder: EmbedderProcess) -> None:
    pairs = [pair for pair in held_out()[0] if pair.same]
    pairs = random.Random(1).sample(pairs, PAIRS)
    for pair in pairs:
        entry = cache_pb2.CreateEntryRequest(scope=SCOPE, prompt=pair.one, response=pair.one)
        stub.CreateEntry(entry, timeout=60)
    seconds: dict[str, list[float]] = {name: [] for name in ("embedding", *BOUNDS)}
    hit = cache_pb2.DECISION_KIND_SEMANTIC
    for number in range(ROUNDS + 1):  # the first round warms up
        for pair in pairs:
            taken, _ = timed(functools.partial(embedder.embed, [pair.other]))
            rows = [("embedding", taken, True)]
            for name, bound in BOUNDS.items():
                request = cache_pb2.LookupEntryRequest(scope=SCOPE, prompt=pair.other, **bound)
                taken, reply = timed(functools.partial(stub.LookupEntry, request, timeout=60))
                rows.append((name, taken, reply.decision.kind == hit))
            for name, taken, counts in rows:
                if number and counts:
                    seconds[name].append(taken)
    embedding = float(np.median(seconds["embedding"]))
    print("| call | hits | p50 ms | p99 ms | p50 / embedding |\n|---|---|---|---|---|")
    for name, row in seconds.items():
        p50, p99 = np.quantile(row, [0.5, 0.99])
        count = len(row) // ROUNDS
        print(f"| {name} | {count} | {1e3 * p50:.1f} | {1e3 * p99:.1f} | {p50 / embedding:.2f} |")
    print(f"\nLoad average: {os.getloadavg()[0]:.1f}.")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def main() -> None:
    with redis_url(None) as url, contextlib.ExitStack() as stack:
        embedder = EmbedderProcess({**os.environ, "MEMETWIN_EMBED_CACHE": "0"})
        stack.callback(embedder.stop)
        own = {"REDIS_URL": url, "REDIS_PREFIX": "bench-semantic-hits:"}
        search = ServiceProcess("search", **own)
        stack.callback(search.close)
        own |= {"SEARCH_ADDRESS": search.address, "EMBEDDER_ADDRESS": embedder.address}
        gateway = ServiceProcess("gateway", **own)
        stack.callback(gateway.close)
        for one in (search, gateway):
            grpc.channel_ready_future(one.channel).result(60)
        measure(cache_pb2_grpc.CacheServiceStub(gateway.channel), embedder)


if __name__ == "__main__":
    main()
