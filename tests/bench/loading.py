"""Measures how many entries LoadEntries loads per second, compared with CreateEntry."""

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from tests.bench.own_redis import redis_url
from tests.embedder_process import EmbedderProcess
from tests.service_process import ServiceProcess

ENTRIES, ROUNDS, BATCH = 512, 3, 64
ANSWER = "Open the settings, choose the account, and press the button. " * 4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis-url", help="an empty Redis; without it one is started")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(redis_url(parser.parse_args().redis_url))
        embedder = EmbedderProcess({**os.environ, "MEMETWIN_EMBED_CACHE": "0"})
        stack.callback(embedder.stop)
        own = {"REDIS_URL": url, "REDIS_PREFIX": "bench-loading:"}
        search = ServiceProcess("search", **own)
        stack.callback(search.close)
        own |= {"SEARCH_ADDRESS": search.address, "EMBEDDER_ADDRESS": embedder.address}
        gateway = ServiceProcess("gateway", **own)
        stack.callback(gateway.close)
        for one in (search, gateway):
            grpc.channel_ready_future(one.channel).result(60)
        measure(cache_pb2_grpc.CacheServiceStub(gateway.channel))


def measure(cache: Any) -> None:
    """Load new entries by each method in turn, and print the medians."""
    methods: dict[str, Callable[[Any, Sequence[str], str], None]] = {
        "CreateEntry, one by one": create,
        f"LoadEntries, {BATCH} entries per message": load,
    }
    rates: dict[str, list[float]] = {name: [] for name in (*methods, "LoadEntries, again")}
    create(cache, prompts("warm")[:BATCH], "warm")
    for number in range(ROUNDS):
        for name, method in methods.items():
            texts = prompts(f"{name} {number}")
            rates[name].append(rate(lambda: method(cache, texts, name)))  # noqa: B023
        rates["LoadEntries, again"].append(rate(lambda: load(cache, texts, name)))  # noqa: B023
    print(f"{ENTRIES} entries, median of {ROUNDS} rounds\n")
    print("| method | entries/s |")
    print("|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {sorted(values)[ROUNDS // 2]:.0f} |")


def prompts(name: str) -> list[str]:
    return [f"How do I change setting {number} of {name}?" for number in range(ENTRIES)]


def rate(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return ENTRIES / (time.perf_counter() - started)


def create(cache: Any, texts: Sequence[str], namespace: str) -> None:
    scope = cache_pb2.Scope(namespace=namespace)
    for text in texts:
        cache.CreateEntry(cache_pb2.CreateEntryRequest(scope=scope, prompt=text, response=ANSWER))


def load(cache: Any, texts: Sequence[str], namespace: str) -> None:
    requests = [
        cache_pb2.LoadEntriesRequest(
            scope=cache_pb2.Scope(namespace=namespace),
            entries=[
                cache_pb2.CuratedEntry(prompt=text, response=ANSWER)
                for text in texts[first : first + BATCH]
            ],
        )
        for first in range(0, len(texts), BATCH)
    ]
    receipts = [one for reply in cache.LoadEntries(iter(requests)) for one in reply.receipts]
    assert len(receipts) == len(texts)
    assert all(one.status != cache_pb2.LOAD_STATUS_REFUSED for one in receipts)


if __name__ == "__main__":
    main()
