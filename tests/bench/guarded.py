"""What API keys, limits and mTLS cost: exact hits per second with all of them, and without."""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from tests.bench.latency import ANSWER, CALLERS, LOOKUP, PREFIX, ROUNDS, SECONDS, prompt
from tests.bench.own_redis import redis_url
from tests.certificates import Authority
from tests.embedder_process import EmbedderProcess
from tests.service_process import ServiceProcess

KEY, TENANT, ENTRIES = "bench-key", "bench", 300
# High enough that no call is refused: the cost is that of counting.
LIMITS = {"requests_per_minute": 10**9, "tokens_per_minute": 10**9, "concurrent_calls": 10**6}
SCOPE = cache_pb2.Scope(tenant=TENANT)


def credentials(authority: Authority) -> grpc.ChannelCredentials:
    files = authority.files
    return grpc.ssl_channel_credentials(
        *(Path(name).read_bytes() for name in (files.ca, files.key, files.cert))
    )


async def rate(
    channel: grpc.aio.Channel, messages: list[bytes], refused: Counter[str], name: str
) -> float:
    """Return the exact hits per second of many concurrent callers, and count refused calls."""
    call: Any = channel.unary_unary(LOOKUP)
    metadata = (("authorization", f"Bearer {KEY}"),)
    reply = cache_pb2.LookupEntryResponse.FromString(await call(messages[0], metadata=metadata))
    assert reply.decision.kind == cache_pb2.DECISION_KIND_EXACT
    count, end = 0, time.perf_counter() + SECONDS

    async def worker(first: int) -> None:
        nonlocal count
        while time.perf_counter() < end:
            try:
                await call(messages[(first + count) % len(messages)], metadata=metadata)
                count += 1
            except grpc.aio.AioRpcError as error:
                refused[f"{name}: {error.code().name} {error.details()}"] += 1

    await asyncio.gather(*(worker(first) for first in range(CALLERS)))
    return count / SECONDS


async def compare(plain: str, guarded: str, authority: Authority) -> tuple[float, float]:
    """Return the medians of both rates. The rounds alternate."""
    lookups = [cache_pb2.LookupEntryRequest(scope=SCOPE, prompt=prompt(n)) for n in range(ENTRIES)]
    messages = [one.SerializeToString() for one in lookups]
    refused: Counter[str] = Counter()
    async with (
        grpc.aio.insecure_channel(plain) as without,
        grpc.aio.secure_channel(guarded, credentials(authority)) as with_all,
    ):
        rounds = [
            [
                await rate(without, messages, refused, "plain"),
                await rate(with_all, messages, refused, "guarded"),
            ]
            for _ in range(ROUNDS)
        ]
    print(f"refused calls: {dict(refused) or 'none'}\n")
    first, second = (float(np.median(one)) for one in zip(*rounds, strict=True))
    return first, second


def run(stack: contextlib.ExitStack, url: str) -> None:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    authority = Authority(folder)
    row = {"sha256": hashlib.sha256(KEY.encode()).hexdigest(), "tenant": TENANT, "limits": LIMITS}
    keys = folder / "keys.json"
    keys.write_text(json.dumps([row]))
    embedder = EmbedderProcess(os.environ)
    stack.callback(embedder.stop)
    own = {"REDIS_URL": url, "REDIS_PREFIX": PREFIX}
    search = ServiceProcess("search", **own)
    stack.callback(search.close)
    own |= {"SEARCH_ADDRESS": search.address, "EMBEDDER_ADDRESS": embedder.address}
    plain = ServiceProcess("gateway", **own)
    stack.callback(plain.close)
    files = authority.files
    tls = {"TLS_CERT": files.cert, "TLS_KEY": files.key, "TLS_CLIENT_CA": files.client_ca}
    # Exact hits need neither the embedder nor search, so these stay without TLS.
    guarded = ServiceProcess("gateway", **own, **tls, API_KEYS_FILE=str(keys))
    stack.callback(guarded.close)
    stub = cache_pb2_grpc.CacheServiceStub(plain.channel)
    grpc.channel_ready_future(plain.channel).result(60)
    for number in range(ENTRIES):
        entry = cache_pb2.CreateEntryRequest(scope=SCOPE, prompt=prompt(number), response=ANSWER)
        stub.CreateEntry(entry, timeout=60, wait_for_ready=True)
    without, with_all = asyncio.run(compare(plain.address, guarded.address, authority))
    print("| exact hits per second, 64 callers | plain | keys, limits and mTLS | cost |")
    print("|---|---|---|---|")
    print(f"| | {without:.0f} | {with_all:.0f} | {1 - with_all / without:.0%} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", help="use this Redis")
    options = parser.parse_args()
    with redis_url(options.redis) as url, contextlib.ExitStack() as stack:
        run(stack, url)


if __name__ == "__main__":
    main()
