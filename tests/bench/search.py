"""Compares the search service with redis-py on the same keys plus a bare gRPC call."""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests.ports import reserve_port
from tests.redis_server import RedisServer
from tests.stack import channel, wait_until

DIMENSIONS, COUNT, BATCH = 384, 5000, 500
PREFIX = "bench-search:"
METRICS = {
    "COSINE": search_pb2.METRIC_COSINE,
    "IP": search_pb2.METRIC_IP,
    "L2": search_pb2.METRIC_L2,
}


def p50s(calls: list[Callable[[Any], Any]], values: Any) -> list[float]:
    """Return the median times of alternating calls, so that noise affects all of them equally."""
    times: list[list[float]] = [[] for _ in calls]
    for value in values:
        for call, taken in zip(calls, times, strict=True):
            started = time.perf_counter()
            call(value)
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", help="use this Redis")
    url = parser.parse_args().redis
    random = np.random.default_rng(0)
    centres = random.standard_normal((200, DIMENSIONS))
    rows = centres[random.integers(0, 200, COUNT)] + 0.5 * random.standard_normal(
        (COUNT, DIMENSIONS)
    )
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows = (rows * np.exp(random.uniform(np.log(0.5), np.log(2), (COUNT, 1)))).astype("<f4")
    with tempfile.TemporaryDirectory() as folder:
        server = None if url else RedisServer(Path(folder))
        address = url or server.url  # type: ignore[union-attr]
        with service(address) as to, redis.Redis.from_url(address, protocol=2) as client:
            measure(to, client, rows)
        if server:
            server.stop()


@contextlib.contextmanager
def service(redis_url: str) -> Iterator[grpc.Channel]:
    """Run the search service in its own process."""
    address = f"127.0.0.1:{reserve_port()}"
    settings = {"MEMETWIN_REDIS_URL": redis_url, "MEMETWIN_SEARCH_LISTEN": address}
    settings |= {"MEMETWIN_REDIS_PREFIX": PREFIX, "MEMETWIN_LOG_LEVEL": "ERROR"}
    words = [sys.executable, "-m", "services.search"]
    with subprocess.Popen(words, env={**os.environ, **settings}) as process:
        try:
            with channel(address) as to:
                health: Any = health_pb2_grpc.HealthStub(to)
                wait_until(lambda: health.Check(health_pb2.HealthCheckRequest()).status == 1)
                yield to
        finally:
            process.terminate()


def measure(to: grpc.Channel, redis: Any, rows: Any) -> None:
    stub = search_pb2_grpc.SearchServiceStub(to)
    redis.response_callbacks.pop("VSIM", None)
    health: Any = health_pb2_grpc.HealthStub(to)
    queries = rows[:200]
    print("| | raw | service | ratio |\n|---|---|---|---|")
    recalls = {}
    for name, metric in METRICS.items():
        seconds = load(stub, name, metric, rows)
        recalls[name] = recall(stub, name, rows, queries)
        if name != "COSINE":
            continue
        started = time.perf_counter()
        for first in range(0, COUNT, BATCH):
            with redis.pipeline(transaction=True) as pipe:
                for number in range(first, first + BATCH):
                    vector = rows[number].tobytes()
                    pipe.hset(f"raw:{number}", mapping={"v": vector, "f": "{}", "t": "", "p": ""})
                    pipe.zadd("raw:ids", {str(number): 0})
                    pipe.execute_command(
                        "VADD", "raw", "FP32", vector, number, "NOQUANT", "EF", 200,
                        "SETATTR", '{"e":0}', "M", 16,
                    )  # fmt: skip
                pipe.execute()
        raw = time.perf_counter() - started
        print(
            f"| load, documents/s | {COUNT / raw:.0f} | {COUNT / seconds:.0f} | {raw / seconds:.2f} |"
        )
    key = next(key for key in redis.scan_iter(f"{PREFIX}*COSINE*vectors*"))
    words = ["WITHSCORES", "COUNT", 10, "EF", 200, "NOTHREAD"]
    bare, raw, ours = p50s(
        [
            lambda _: health.Check(health_pb2.HealthCheckRequest()),
            lambda row: redis.execute_command("VSIM", key, "FP32", row.tobytes(), *words),
            lambda row: ask(stub, "COSINE", [row]),
        ],
        rows[:1000],
    )
    print(
        f"| one query, p50 ms (raw: with a bare gRPC call) | {(bare + raw) * 1e3:.2f} | {ours * 1e3:.2f} | {ours / (bare + raw):.2f} |"
    )

    def pipeline(batch: Any) -> None:
        with redis.pipeline(transaction=False) as pipe:
            for row in batch:
                pipe.execute_command("VSIM", key, "FP32", row.tobytes(), *words)
            pipe.execute()

    batches = [rows[n : n + 64] for n in range(0, 640, 64)]
    raw, ours = p50s([pipeline, lambda batch: ask(stub, "COSINE", batch)], batches)
    print(
        f"| 64 queries in one call, p50 ms | {raw * 1e3:.1f} | {ours * 1e3:.1f} | {ours / raw:.2f} |"
    )
    print("\n| recall@10 | HNSW at its default | exact |\n|---|---|---|")
    for name, (near, exact) in recalls.items():
        print(f"| {name} | {near:.4f} | {exact:.4f} |")


def load(stub: Any, name: str, metric: Any, rows: Any) -> float:
    collection = search_pb2.Collection(
        name=name,
        dimensions=DIMENSIONS,
        metric=metric,
        engine=search_pb2.ENGINE_VECTOR_SETS,
    )
    stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))
    requests = [
        search_pb2.UpsertDocumentsRequest(
            collection=name,
            documents=[
                search_pb2.Document(id=str(n), vector=rows[n].tobytes())
                for n in range(first, first + BATCH)
            ],
        )
        for first in range(0, COUNT, BATCH)
    ]
    started = time.perf_counter()
    for request in requests:
        stub.UpsertDocuments(request, timeout=120)
    return time.perf_counter() - started


def ask(stub: Any, name: str, rows: Any, **options: Any) -> Any:
    queries = [
        search_pb2.Query(vector=row.tobytes(), limit=10, return_no_fields=True, **options)
        for row in rows
    ]
    return stub.Search(search_pb2.SearchRequest(collection=name, queries=queries), timeout=120)


def recall(stub: Any, name: str, rows: Any, queries: Any) -> tuple[float, float]:
    found = []
    for exact in (False, True):
        good = 0
        for query, result in zip(
            queries, ask(stub, name, queries, exact=exact).results, strict=True
        ):
            truth = similarities(name, rows, query)
            tenth = np.sort(truth)[-10]
            good += sum(truth[int(hit.id)] >= tenth - 1e-5 for hit in result.hits)
        found.append(good / (10 * len(queries)))
    return found[0], found[1]


def similarities(name: str, rows: Any, query: Any) -> Any:
    wide, asked = rows.astype(float), query.astype(float)
    if name == "L2":
        return 1 / (1 + np.linalg.norm(wide - asked, axis=1))
    product = wide @ asked
    return product if name == "IP" else product / np.linalg.norm(wide, axis=1)


if __name__ == "__main__":
    main()
