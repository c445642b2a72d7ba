"""The largest legal input of every rpc and route, and how it affects other callers.

While an input is being handled, a separate process probes ``/healthz`` and an exact hit. The
bounds: p99 of ``/healthz`` at most 50 ms, its worst 500 ms; p99 of a hit at most four times that of
an idle gateway; the memory of the gateway and its children at most 512 MiB above idle. The table
also has the longest time for which one task held the gateway's event loop.
"""

import argparse
import asyncio
import contextlib
import functools
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import psutil
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc, rag_pb2, rag_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests import language_model
from tests.bench import largest_bodies, largest_messages
from tests.bench.largest_messages import MIB, SHAPES, Shape
from tests.bench.loop_watchdog import Hold, read_holds
from tests.bench.own_redis import redis_url
from tests.bench.probe import Probe
from tests.embedder_process import EmbedderProcess
from tests.service_process import ServiceProcess

PREFIX = "bench-largest:"
MIN_SECONDS = 2.0
# A call that takes longer is ended, because its effect on others has been measured by then.
TIMEOUT = 15.0
HEALTH_P99, HEALTH_WORST, HIT_FACTOR, MEMORY = 0.05, 0.5, 4.0, 512 * MIB
LARGE = 64 * 1024
# Status codes which show that something is broken, not that an input is refused.
BROKEN = ("UNKNOWN", "INTERNAL", "UNIMPLEMENTED", "CANCELLED", "DATA_LOSS", "UNAVAILABLE", "500")
PROMPT = "What does the exact tier of the cache return?"
SCOPE = cache_pb2.Scope(tenant="default", user="probe")


@dataclass
class Row:
    """The effect of an input."""

    name: str
    size: int
    outcome: str = ""
    seconds: float = 0.0
    health: list[float] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)
    memory: int = 0
    holds: list[Hold] = field(default_factory=list)

    def faults(self, idle_hit: float) -> list[str]:
        """Return which bounds are exceeded."""
        checks = {
            f"outcome {self.outcome}": any(code in self.outcome for code in BROKEN),
            "healthz p99": p99(self.health) > HEALTH_P99,
            "healthz worst": max(self.health) > HEALTH_WORST,
            "hit p99": p99(self.hits) > HIT_FACTOR * idle_hit,
            "memory": self.memory > MEMORY,
        }
        return [name for name, is_fault in checks.items() if is_fault]

    def line(self, idle_hit: float) -> str:
        health, worst, hit = (
            1000 * x for x in (p99(self.health), max(self.health), p99(self.hits))
        )
        hold = 1000 * self.holds[0].seconds if self.holds else 0
        return (
            f"| {self.name} | {self.size / MIB:.1f} | {self.outcome} | {self.seconds:.1f} | {health:.1f}"
            f" | {worst:.0f} | {hit:.1f} | {hold:.0f} | {self.memory / MIB:.0f}"
            f" | {', '.join(self.faults(idle_hit))} |"
        )


HEADER = (
    "| input | MiB | outcome | s | healthz p99 ms | worst ms | hit p99 ms | hold ms | memory MiB"
    " | exceeded |\n|---|---|---|---|---|---|---|---|---|---|"
)


def p99(values: Sequence[float]) -> float:
    return float(np.percentile(values, 99))


class Memory:
    """Samples the memory of a process and its children; shared pages count in parts."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def now(self) -> int:
        total = 0
        for one in (self._process, *self._process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_full_info().pss
        return total

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self.peak = max(self.peak, self.now())


class Bench:
    """A local stack, with each service in its own process, and the probe."""

    def __init__(self, stack: contextlib.ExitStack, redis: str) -> None:
        embedder = EmbedderProcess({**os.environ, "MEMETWIN_LOG_LEVEL": "ERROR"})
        stack.callback(embedder.stop)
        model = stack.enter_context(language_model.running(lambda body: "An answer."))
        settings = {"REDIS_URL": redis, "REDIS_PREFIX": PREFIX}
        search = ServiceProcess("search", **settings)
        stack.callback(search.close)
        self._holds = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "holds"
        gateway = ServiceProcess(
            "gateway",
            launcher=("-m", "tests.bench.loop_watchdog", str(self._holds)),
            **settings,
            SEARCH_ADDRESS=search.address,
            EMBEDDER_ADDRESS=embedder.address,
            LLM_BASE_URL=model.url,
            LLM_MODEL="m",
        )
        stack.callback(gateway.close)
        self.channels = {
            "embedder": embedder.channel,
            "search": search.channel,
            "gateway": gateway.channel,
        }
        for one in self.channels.values():
            grpc.channel_ready_future(one).result(60)
        self.http = stack.enter_context(
            httpx.Client(
                base_url=f"http://{gateway.http_address}", timeout=TIMEOUT, trust_env=False
            )
        )
        self._model = model
        self._prepare()
        lookup = cache_pb2.LookupEntryRequest(
            prompt=PROMPT, scope=SCOPE, mode=cache_pb2.LOOKUP_MODE_EXACT
        )
        self.probe = Probe(gateway.http_address, gateway.address, lookup.SerializeToString())
        stack.callback(self.probe.close)
        self.memory = Memory(gateway.pid)
        stack.callback(self.memory.close)

    def _prepare(self) -> None:
        search = search_pb2_grpc.SearchServiceStub(self.channels["search"])
        collection = largest_messages.collection("largest")
        search.CreateCollection(search_pb2.CreateCollectionRequest(collection=collection))
        documents = [
            search_pb2.Document(
                id=f"largest-{n}",
                vector=np.random.default_rng(n).normal(size=384).astype("<f4").tobytes(),
                fields=largest_messages.fields(),
                text=f"Text number {n}.",
            )
            for n in range(5_000)
        ]
        for first in range(0, len(documents), 500):
            request = search_pb2.UpsertDocumentsRequest(
                collection="largest", documents=documents[first : first + 500]
            )
            search.UpsertDocuments(request, timeout=120)
        header = rag_pb2.IngestHeader(
            collection="largest-documents", id="largest-0", title="A title"
        )
        ingest = rag_pb2_grpc.RagServiceStub(self.channels["gateway"]).IngestDocuments
        parts = [
            rag_pb2.IngestDocumentsRequest(header=header),
            rag_pb2.IngestDocumentsRequest(content=b"Paris is in France. " * 1000),
        ]
        assert [one.chunks > 0 for one in ingest(iter(parts))] == [True]
        cache = cache_pb2_grpc.CacheServiceStub(self.channels["gateway"])
        cache.CreateEntry(cache_pb2.CreateEntryRequest(prompt=PROMPT, response="It.", scope=SCOPE))

    def measure(self, name: str, size: int, send: Callable[[], str]) -> Row:
        """Send an input repeatedly for some seconds, and at least once."""
        self._model.requests.clear()
        self._model.calls.clear()
        self.probe.take()
        idle, self.memory.peak = self.memory.now(), 0
        outcomes: list[str] = []
        row, started, began_at = Row(name, size), time.monotonic(), time.time()
        while not outcomes or time.monotonic() - started < MIN_SECONDS:
            begun = time.monotonic()
            outcomes.append(send())
            row.seconds = max(row.seconds, time.monotonic() - begun)
        row.outcome = ", ".join(dict.fromkeys(outcomes))
        row.health, row.hits = self.probe.take()
        row.memory = max(0, self.memory.peak - idle)
        row.holds = read_holds(self._holds, began_at)
        return row

    def idle(self) -> float:
        """Return the p99 of an exact hit while nothing else happens."""
        self.probe.take()
        time.sleep(3 * MIN_SECONDS)
        return p99(self.probe.take()[1])

    def rpc(self, process: str, method: Any, messages: list[bytes]) -> str:
        """Make a call; return its status code."""
        kind = "stream" if method.client_streaming else "unary"
        kind += "_stream" if method.server_streaming else "_unary"
        path = f"/{method.containing_service.full_name}/{method.name}"
        call = getattr(self.channels[process], kind)(path)
        argument = iter(messages) if method.client_streaming else messages[0]
        try:
            answer = call(argument, timeout=TIMEOUT)
            if method.server_streaming:
                for _ in answer:
                    pass
        except grpc.RpcError as error:
            return f"{error.code().name} {_reason(error)}".strip()
        return "OK"

    def post(self, route: str, body: largest_bodies.Body) -> str:
        """Make an HTTP request; return its status."""
        method, path = route.split()
        path = path.replace("{id:path}", "largest-0") + body.path
        headers = {"Content-Type": body.media_type, "Accept": body.accept}
        try:
            reply = self.http.request(method, path, content=body.content, headers=headers)
        except httpx.ReadTimeout:
            return "DEADLINE_EXCEEDED"
        except httpx.TransportError as error:  # the gateway may refuse a body before its end
            return type(error).__name__
        found = re.search(r'"(?:reason|code)":"([A-Za-z_]+)"', reply.text[:4096])
        return f"{reply.status_code} {found[1] if reply.is_error and found else ''}".strip()


def _reason(error: Any) -> str:
    """Return the reason of one of our errors, or an empty string."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    details = status.details if status else []
    return info.reason if any(one.Unpack(info) for one in details) else ""


def rows(bench: Bench, only: str, shapes: Sequence[Shape]) -> Iterator[Row]:
    """Measure each rpc, then each route."""
    for process, method in largest_messages.rpcs():
        if re.search(only, method.full_name):
            yield from rpc_rows(bench, process, method, shapes)
    for route in asyncio.run(largest_bodies.routes()):
        if re.search(only, route):
            yield from route_rows(bench, route, shapes)


def rpc_rows(bench: Bench, process: str, method: Any, shapes: Sequence[Shape]) -> Iterator[Row]:
    """Measure the variants of an rpc with each shape of text, or with one if it has no long text."""
    for shape in shapes:
        largest = 0
        for variant, requests in largest_messages.requests(method, shape):
            messages = [one.SerializeToString() for one in requests]
            size = sum(map(len, messages))
            largest = max(largest, size)
            name = " · ".join(filter(None, (method.full_name, variant, shape.name)))
            send = functools.partial(bench.rpc, process, method, messages)
            yield bench.measure(name.removeprefix("memetwin."), size, send)
        if largest < LARGE:
            return


def route_rows(bench: Bench, route: str, shapes: Sequence[Shape]) -> Iterator[Row]:
    """Measure the bodies of a route with each shape of text."""
    seen = set()
    for shape in shapes:
        for body in largest_bodies.bodies(route, shape):
            if body.content not in seen:
                seen.add(body.content)
                name = " · ".join(filter(None, (route, body.name, shape.name)))
                send = functools.partial(bench.post, route, body)
                yield bench.measure(name, len(body.content), send)


def run(
    redis: str, only: str, shapes: Sequence[Shape], *, stacks: bool = False
) -> dict[str, list[str]]:
    """Print a table; return the bounds that inputs exceed, by the name of the input."""
    faults = {}
    with contextlib.ExitStack() as stack:
        bench = Bench(stack, redis)
        idle_hit = bench.idle()
        print(
            f"An exact hit of an idle gateway: p99 {1000 * idle_hit:.1f} ms.\n\n{HEADER}",
            flush=True,
        )
        for row in rows(bench, only, shapes):
            print(row.line(idle_hit), flush=True)
            if stacks and row.holds:
                print("  " + "\n  ".join(row.holds[0].stacks), flush=True)
            if found := row.faults(idle_hit):
                faults[row.name] = found
    return faults


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", help="use this Redis")
    parser.add_argument("--only", default="", help="a regular expression for rpcs and routes")
    parser.add_argument("--shapes", default="", help="a regular expression for the shapes of texts")
    parser.add_argument(
        "--stacks", action="store_true", help="print the stacks of each input's longest hold"
    )
    options = parser.parse_args()
    shapes = [shape for shape in SHAPES if re.search(options.shapes, shape.name)]
    with redis_url(options.redis) as url:
        faults = run(url, options.only, shapes, stacks=options.stacks)
    print(f"The load average of the machine: {os.getloadavg()[1]:.1f}.")
    print(f"\n{len(faults)} inputs exceed a bound.")


if __name__ == "__main__":
    main()
