"""Looks for leaks and lost hits in the scopes of tenants that store the same questions."""

import argparse
import asyncio
import contextlib
import hashlib
import json
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from tests.bench.own_redis import redis_url
from tests.service_process import ServiceProcess
from tests.stack import wait_until

LOOKUPS, CALLERS = 100_000, 32
TENANTS, USERS, NAMESPACES = ("acme", "umbrella", "initech", "hooli", "globex"), 5, 4
QUESTIONS, DIMENSIONS, BOUND = 50, 384, 0.9


@dataclass(frozen=True)
class Lookup:
    """A lookup: the API key, the scope, the question, and its vector or an empty one.

    ``digest`` is that of the embedder's model, because the cache takes vectors of no other one.
    """

    key: str
    scope: tuple[str, int, int]
    question: int
    vector: bytes
    digest: str


@dataclass
class Outcome:
    """The outcome of lookups.

    A second gateway that has only the first tenant repeats that tenant's.
    """

    lookups: int = 0
    denied: int = 0
    leaks: int = 0
    hits: int = 0
    expected_hits: int = 0
    together: int = 0
    alone: int = 0

    def table(self) -> str:
        return (
            "| lookups | denied for another tenant | leaks | hits | expected hits |"
            " first tenant's hits | the same, alone |\n|---|---|---|---|---|---|---|\n"
            f"| {self.lookups} | {self.denied} | {self.leaks} | {self.hits} | {self.expected_hits} |"
            f" {self.together} | {self.alone} |"
        )


class Tenants:
    """The same questions in the scopes of all tenants. Each scope stores half of them."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self._random = np.random.default_rng(0)
        self._vectors = self._random.standard_normal((QUESTIONS, DIMENSIONS))
        self.stored = {
            (tenant, user, space): set(self._random.permutation(QUESTIONS)[: QUESTIONS // 2])
            for tenant in TENANTS
            for user in range(USERS)
            for space in range(NAMESPACES)
        }

    def lookups(self, count: int) -> Iterable[Lookup]:
        """Yield lookups: a third by a similar vector, and a tenth with another tenant's key."""
        scopes, random = list(self.stored), self._random
        for _ in range(count):
            scope, question = scopes[random.integers(len(scopes))], int(random.integers(QUESTIONS))
            key = random.choice(TENANTS) if random.random() < 0.1 else scope[0]
            vector = self.vector(question, 0.2) if random.random() < 1 / 3 else b""
            yield Lookup(str(key), scope, question, vector, self.digest)

    def vector(self, question: int, noise: float = 0.0) -> bytes:
        near = self._vectors[question] + noise * self._random.standard_normal(DIMENSIONS)
        return bytes(near.astype("<f4").tobytes())


def keys(folder: Path) -> str:
    """Write a file in which each tenant's key is its name; return its path."""
    file = folder / "keys.json"
    file.write_text(
        json.dumps(
            [{"sha256": hashlib.sha256(one.encode()).hexdigest(), "tenant": one} for one in TENANTS]
        )
    )
    return str(file)


async def fill(address: str, tenants: Tenants, only: str = "") -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = cache_pb2_grpc.CacheServiceStub(channel)

        async def create(scope: tuple[str, int, int], question: int) -> None:
            request = cache_pb2.CreateEntryRequest(
                scope=message(scope),
                prompt=f"question {question}",
                response=f"{scope} {question}",
                vector=tenants.vector(question),
                model_digest=tenants.digest,
            )
            await stub.CreateEntry(request, metadata=header(scope[0]))

        entries = [
            (scope, one)
            for scope, questions in tenants.stored.items()
            for one in questions
            if only in ("", scope[0])
        ]
        await create(*entries[0])  # creates the collection
        await for_each(entries[1:], lambda entry: create(*entry))


async def compare(addresses: tuple[str, str], tenants: Tenants, count: int) -> Outcome:
    """Send lookups to the shared gateway, and the first tenant's to its own gateway too."""
    outcome = Outcome()
    async with (
        grpc.aio.insecure_channel(addresses[0]) as of_all,
        grpc.aio.insecure_channel(addresses[1]) as of_one,
    ):
        stubs: list[Any] = [cache_pb2_grpc.CacheServiceStub(one) for one in (of_all, of_one)]

        async def check(one: Lookup) -> None:
            outcome.lookups += 1
            answer = await look_up(stubs[0], one)
            if answer is None:
                outcome.denied += 1
                outcome.leaks += one.key == one.scope[0]  # a denial in its own scope is just as bad
                return
            outcome.leaks += answer not in ("", f"{one.scope} {one.question}") or (
                one.key != one.scope[0]
            )
            outcome.hits += bool(answer)
            outcome.expected_hits += one.question in tenants.stored[one.scope]
            if one.scope[0] == TENANTS[0]:
                outcome.together += bool(answer)
                same = await look_up(stubs[1], one)  # separate: += reads before it awaits
                outcome.alone += bool(same)

        await for_each(tenants.lookups(count), check)
    return outcome


async def look_up(stub: Any, one: Lookup) -> str | None:
    """Return the served answer, an empty text for a miss, or None for a denial."""
    question: Any = {"prompt": f"question {one.question}", "mode": cache_pb2.LOOKUP_MODE_EXACT}
    if one.vector:
        question = {"vector": one.vector, "model_digest": one.digest, "min_similarity": BOUND}
    request = cache_pb2.LookupEntryRequest(scope=message(one.scope), **question)
    try:
        reply = await stub.LookupEntry(request, timeout=60, metadata=header(one.key))
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.PERMISSION_DENIED:
            raise
        return None
    return str(reply.decision.entry.response)


async def for_each(items: Iterable[Any], work: Callable[[Any], Awaitable[None]]) -> None:
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    await asyncio.gather(*(worker() for _ in range(CALLERS)))


def message(scope: tuple[str, int, int]) -> cache_pb2.Scope:
    tenant, user, space = scope
    return cache_pb2.Scope(tenant=tenant, user=f"{user or ''}", namespace=f"{space or ''}")


def header(key: str) -> Any:
    return (("authorization", f"Bearer {key}"),)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", help="use this Redis")
    parser.add_argument("--lookups", type=int, default=LOOKUPS)
    options = parser.parse_args()
    with (
        redis_url(options.redis) as url,
        tempfile.TemporaryDirectory() as folder,
        contextlib.ExitStack() as stack,
    ):
        embedder = ServiceProcess("embedder")
        stack.callback(embedder.close)
        tenants = Tenants(model_digest(embedder.channel))
        file = keys(Path(folder))
        prefixes = (f"bench-{place}:{uuid.uuid4()}:" for place in ("together", "alone"))
        together, alone = (start(stack, url, prefix, file, embedder.address) for prefix in prefixes)
        addresses = together, alone
        asyncio.run(fill(addresses[0], tenants))
        asyncio.run(fill(addresses[1], tenants, only=TENANTS[0]))
        print(asyncio.run(compare(addresses, tenants, options.lookups)).table())


def model_digest(channel: grpc.Channel) -> str:
    """Wait for the embedder; return the digest of its text model."""
    stub: Any = embedder_pb2_grpc.EmbedderServiceStub(channel)
    request = embedder_pb2.GetModelRequest()
    wait_until(lambda: stub.GetModel(request).model.ready)
    return str(stub.GetModel(request).model.digest)


def start(stack: contextlib.ExitStack, url: str, prefix: str, keys_file: str, embedder: str) -> str:
    """Start search and a gateway as processes; return the gateway's address."""
    own = {"REDIS_URL": url, "REDIS_PREFIX": prefix}
    search = ServiceProcess("search", **own)
    stack.callback(search.close)
    own |= {"SEARCH_ADDRESS": search.address, "EMBEDDER_ADDRESS": embedder}
    own |= {"API_KEYS_FILE": keys_file}
    gateway = ServiceProcess("gateway", **own)
    stack.callback(gateway.close)
    for one in (search, gateway):
        grpc.channel_ready_future(one.channel).result(60)
    return gateway.address


if __name__ == "__main__":
    main()
