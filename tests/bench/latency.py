"""Compares a cache of 100,000 entries with a bare gRPC call, a GET and the bare vector query."""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import grpc
import numpy as np
import redis
from redis.asyncio import Redis

from memetwin.embedder.v1 import embedder_pb2
from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.gateway import redis_store
from services.gateway.backends.fields import to_field
from services.gateway.cache.index import EF, SIMILARITY_CANDIDATES, collection_name
from services.gateway.cache.scopes import Scopes, entry_id
from services.gateway.cache.store import CacheStore
from services.gateway.cache.types import Context, Entry, Request, Scope
from services.gateway.cache.vectors import pack
from services.gateway.shared_secret import SharedSecret
from tests.bench.echo import METHOD
from tests.bench.own_redis import redis_url
from tests.bench.search import p50s
from tests.conftest import ROOT
from tests.embedder_process import EmbedderProcess
from tests.ports import reserve_port
from tests.service_process import ServiceProcess
from tests.stack import channel

ENTRIES, DIMENSIONS, FREEDOM, CENTRES, CALLERS = 100_000, 384, 32, 5_000, 64
TEXTS, CALLS, SECONDS, ROUNDS = 300, 1_000, 3.0, 3
PREFIX = "bench-latency:"
CONSTRUCTION = 40
OWN, CONTEXT, TTL, BATCH = Scope(tenant="bench"), Context(), 86400.0, 64
SCOPE = cache_pb2.Scope(tenant="bench")
ANSWER = "Open the settings, choose the account, and press the button. " * 8
LOOKUP = "/memetwin.gateway.v1.CacheService/LookupEntry"
Lookup = cache_pb2.LookupEntryRequest


class Vectors:
    """Unit vectors in clusters and with few degrees of freedom, like the vectors of questions."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self._centres = random.standard_normal((CENTRES, FREEDOM))
        self._spread = random.standard_normal((FREEDOM, DIMENSIONS))

    def row(self, number: int, noise: float = 0.0) -> bytes:
        """The vector of an entry, or one near it: float32, little-endian."""
        random = np.random.default_rng(number)
        latent = self._centres[number % CENTRES] + 0.7 * random.standard_normal(FREEDOM)
        latent += noise * random.standard_normal(FREEDOM)
        vector = latent @ self._spread + 0.3 * random.standard_normal(DIMENSIONS)
        return bytes((vector / np.linalg.norm(vector)).astype("<f4").tobytes())


def prompt(number: int) -> str:
    return f"How do I change the setting of account {number}?"


class Load:
    """Writes entries as the cache does, but sends many to search in one call."""

    def __init__(self, store: Redis, search: Any, digest: str) -> None:
        self._partitions = Scopes(SharedSecret(store, PREFIX))
        self._store, self._search = CacheStore(store, PREFIX), search
        self._vectors, self._digest = Vectors(), digest

    async def run(self, first: int) -> None:
        batches = iter(range(first, ENTRIES, BATCH))

        async def worker() -> None:
            for start in batches:
                await self._write(range(start, min(start + BATCH, ENTRIES)))

        await asyncio.gather(worker(), worker())

    async def _write(self, numbers: range) -> None:
        owner = await self._partitions.owner(OWN)
        partition = owner.partition
        documents: list[search_pb2.Document] = []
        entries: list[Entry] = []
        for number in numbers:
            lookup = Request(OWN, CONTEXT, prompt(number))
            tags = {"partition": partition, "fingerprint": CONTEXT.fingerprint}
            document = search_pb2.Document(
                id=entry_id(partition, lookup),
                vector=self._vectors.row(number),
                fields={name: to_field(tag) for name, tag in tags.items()},
                ttl=TTL,
            )
            documents.append(document)
            entry = Entry(
                id=document.id,
                prompt=lookup.prompt,
                response=ANSWER,
                scope=OWN,
                fingerprint=CONTEXT.fingerprint,
                parts=CONTEXT.parts,
                created_at=time.time(),
                ttl=TTL,
                usage={"prompt_tokens": 20, "completion_tokens": 100},
                vector=pack(np.frombuffer(document.vector, "<f4")),
                digest=self._digest,
            )
            entries.append(entry)
        await asyncio.gather(*(self._store.put(owner, asdict(entry), TTL) for entry in entries))
        request = search_pb2.UpsertDocumentsRequest(
            collection=collection_name(self._digest, partition), documents=documents
        )
        await self._search.UpsertDocuments(request, timeout=120)


async def create(search: str, url: str, digest: str) -> None:
    """Create the collection of the entries' vectors, unless an earlier run created it."""
    store = redis_store.connect(url)
    partition = await Scopes(SharedSecret(store, PREFIX)).partition(OWN)
    tag = search_pb2.FIELD_TYPE_TAG
    wanted = search_pb2.Collection(
        name=collection_name(digest, partition),
        dimensions=DIMENSIONS,
        hnsw=search_pb2.HnswIndex(ef_construction=CONSTRUCTION),
        fields=[search_pb2.Field(name=name, type=tag) for name in ("partition", "fingerprint")],
        model_digest=digest,
        index_text=False,
    )
    async with grpc.aio.insecure_channel(search) as to:
        stub: Any = search_pb2_grpc.SearchServiceStub(to)
        with contextlib.suppress(grpc.RpcError):
            await stub.CreateCollection(search_pb2.CreateCollectionRequest(collection=wanted))
    await store.aclose()


async def load(gateway: Any, search: str, url: str, digest: str, first: int) -> None:
    """Create entries: the first ones through the gateway, then the others directly.

    A small ef_construction builds the HNSW graph in a third of the time. The bare query uses the
    same graph.
    """
    for number in range(first, TEXTS):
        usage = cache_pb2.Usage(prompt_tokens=20, completion_tokens=100)
        request = cache_pb2.CreateEntryRequest(
            scope=SCOPE, prompt=prompt(number), response=ANSWER, usage=usage
        )
        gateway.CreateEntry(request, timeout=60)
    store = redis_store.connect(url)
    async with grpc.aio.insecure_channel(search) as to:
        stub = search_pb2_grpc.SearchServiceStub(to)
        await Load(store, stub, digest).run(max(first, TEXTS))
    await store.aclose()


async def rate(address: str, method: str, messages: list[bytes]) -> float:
    """Return the calls per second of many concurrent callers."""
    count = 0
    async with grpc.aio.insecure_channel(address) as to:
        call: Any = to.unary_unary(method)
        await call(messages[0])
        end = time.perf_counter() + SECONDS

        async def worker(first: int) -> None:
            nonlocal count
            while time.perf_counter() < end:
                await call(messages[(first + count) % len(messages)])
                count += 1

        await asyncio.gather(*(worker(first) for first in range(CALLERS)))
    return count / SECONDS


class Calls:
    """The timed calls: the cache's, and the bare ones."""

    def __init__(self, gateway: Any, bare: Any, store: Any, digest: str) -> None:
        self._lookup: Any = cache_pb2_grpc.CacheServiceStub(gateway).LookupEntry
        self._echo: Any = bare.unary_unary(METHOD)
        self._store, self._digest, self._vectors = store, digest, Vectors()
        self.outcomes: Counter[str] = Counter()
        store.response_callbacks.pop("VSIM", None)
        [self._set] = store.scan_iter(f"{PREFIX}*:vectors:1", count=10_000)
        self._entry = next(store.scan_iter(f"{PREFIX}gateway:entry:*", count=10_000))

    def exact(self, number: int) -> None:
        found = self._lookup(exactly(number), timeout=60)
        assert found.decision.kind == cache_pb2.DECISION_KIND_EXACT

    def by_vector(self, number: int) -> None:
        vector = self._vectors.row(number, 0.1)
        request = Lookup(scope=SCOPE, vector=vector, model_digest=self._digest)
        found = self._lookup(request, timeout=60)
        assert found.decision.kind == cache_pb2.DECISION_KIND_SEMANTIC

    def by_text(self, number: int) -> None:
        """Look up a prompt that was created with its own vector, in other capitals.

        The other entries have synthetic vectors, so the index may not find it.
        """
        paraphrase = prompt(number % TEXTS).replace("How do I", "how do i")
        found = self._lookup(Lookup(scope=SCOPE, prompt=paraphrase), timeout=60)
        self.outcomes[cache_pb2.DecisionKind.Name(found.decision.kind)] += 1

    def echo(self, number: int) -> None:
        self._echo(exactly(number).SerializeToString(), timeout=60)

    def get(self, _: int) -> None:
        self._store.get(self._entry)

    def query(self, number: int) -> None:
        vector = self._vectors.row(number, 0.1)
        words = ["WITHSCORES", "COUNT", SIMILARITY_CANDIDATES, "EF", EF, "NOTHREAD"]
        self._store.execute_command("VSIM", self._set, "FP32", vector, *words)


def exactly(number: int) -> cache_pb2.LookupEntryRequest:
    return Lookup(scope=SCOPE, prompt=prompt(number))


def measure(calls: Calls, embedder: EmbedderProcess) -> None:
    def embed(number: int) -> None:
        embedder.embed([prompt(number)])

    numbers = [int(one) for one in np.random.default_rng(1).integers(TEXTS, ENTRIES, CALLS)]
    for call in (calls.exact, calls.by_vector, calls.by_text, embed):
        for number in numbers[:50]:
            call(number)
    echo, get, query, exact, vector, embedding, text = (
        1e3 * one
        for one in p50s(
            [
                calls.echo,
                calls.get,
                calls.query,
                calls.exact,
                calls.by_vector,
                embed,
                calls.by_text,
            ],
            numbers,
        )
    )
    rows = [
        ("exact hit, beside an echo and a GET", echo + get, exact, exact / (echo + get)),
        ("by vector, beside two echoes and VSIM", 2 * echo + query, vector, 0.0),
        ("by text without the embedder's time", 2 * echo + query, text - embedding, 0.0),
    ]
    print(f"echo {echo:.2f} ms, GET {get:.2f}, VSIM {query:.2f}, embedder {embedding:.2f}\n")
    print("| p50 ms | bare | cache | ratio |\n|---|---|---|---|")
    for name, bare, ours, _ in rows:
        print(f"| {name} | {bare:.2f} | {ours:.2f} | {ours / bare:.2f} |")
    print(f"\nLookups by text: {dict(calls.outcomes)}. Load average: {os.getloadavg()[0]:.1f}.")


def measure_rates(gateway: str, bare: str) -> None:
    numbers = [int(one) for one in np.random.default_rng(2).integers(TEXTS, ENTRIES, CALLS)]
    messages = [exactly(number).SerializeToString() for number in numbers]
    paths = [(bare, METHOD), (gateway, LOOKUP)]
    rounds = [[asyncio.run(rate(*path, messages)) for path in paths] for _ in range(ROUNDS)]
    echoes, hits = (float(np.median(one)) for one in zip(*rounds, strict=True))
    print(
        "\n| one process, 64 callers | echoes per second | exact hits per second | ratio |\n|---|---|---|---|"
    )
    print(f"| | {echoes:.0f} | {hits:.0f} | {hits / echoes:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--redis", help="use this Redis, and the entries that an earlier run stored in it"
    )
    options = parser.parse_args()
    with redis_url(options.redis) as url, contextlib.ExitStack() as stack:
        run(stack, url)


def run(stack: contextlib.ExitStack, url: str) -> None:
    """Start the services, create the missing entries, and measure."""
    embedder = EmbedderProcess({**os.environ, "MEMETWIN_EMBED_CACHE": "0"})
    stack.callback(embedder.stop)
    own = {"REDIS_URL": url, "REDIS_PREFIX": PREFIX}
    search = ServiceProcess("search", **own)
    stack.callback(search.close)
    own |= {"SEARCH_ADDRESS": search.address, "EMBEDDER_ADDRESS": embedder.address}
    gateway = ServiceProcess("gateway", **own)
    stack.callback(gateway.close)
    for one in (search, gateway):
        grpc.channel_ready_future(one.channel).result(60)
    bare = stack.enter_context(echo())
    store: Any = stack.enter_context(redis.Redis.from_url(url, protocol=2))
    digest = embedder.stub.GetModel(embedder_pb2.GetModelRequest()).model.digest
    asyncio.run(create(search.address, url, digest))
    existing = max(0, store.hlen(f"{PREFIX}gateway:weights") - 2 * BATCH)
    if existing < ENTRIES - 2 * BATCH:
        started = time.perf_counter()
        stub = cache_pb2_grpc.CacheServiceStub(gateway.channel)
        asyncio.run(load(stub, search.address, url, digest, existing))
        created = (ENTRIES - existing) / (time.perf_counter() - started)
        print(f"{ENTRIES - existing} entries created, {created:.0f} per second\n", flush=True)
    with channel(bare) as to:
        measure(Calls(gateway.channel, to, store, digest), embedder)
    measure_rates(gateway.address, bare)


@contextlib.contextmanager
def echo() -> Iterator[str]:
    """Run the bare gRPC server in its own process; yields its address."""
    address = f"127.0.0.1:{reserve_port()}"
    words = [sys.executable, "-m", "tests.bench.echo", address]
    with subprocess.Popen(words, cwd=ROOT) as process:
        try:
            with channel(address) as to:
                grpc.channel_ready_future(to).result(30)
            yield address
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
