"""Measures from a separate process how long ``/healthz`` and an exact hit of a gateway take."""

import asyncio
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import grpc
import uvloop

LOOKUP = "/memetwin.gateway.v1.CacheService/LookupEntry"
PAUSE = 0.01
TIMEOUT = 120.0
_GET = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n"


class Probe:
    """Runs until closed. ``take`` returns the latencies since the last ``take``, in seconds."""

    def __init__(self, http_address: str, grpc_address: str, lookup: bytes) -> None:
        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=_run, args=(other, http_address, grpc_address, lookup), daemon=True
        )
        self._process.start()

    def take(self) -> tuple[list[float], list[float]]:
        """Return the latencies of ``/healthz`` and of exact hits."""
        self._pipe.send("take")
        found: tuple[list[float], list[float]] = self._pipe.recv()
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def _run(pipe: Connection, http_address: str, grpc_address: str, lookup: bytes) -> None:
    uvloop.run(_probe(pipe, http_address, grpc_address, lookup))


async def _probe(pipe: Connection, http_address: str, grpc_address: str, lookup: bytes) -> None:
    health, hits = _Series(), _Series()
    async with grpc.aio.insecure_channel(grpc_address) as channel:
        call: Any = channel.unary_unary(LOOKUP)

        async def look_up() -> None:
            await call(lookup, timeout=TIMEOUT)

        get = await _getter(http_address)
        tasks = [asyncio.create_task(health.run(get)), asyncio.create_task(hits.run(look_up))]
        while await asyncio.to_thread(pipe.recv):
            await asyncio.gather(health.next(), hits.next())
            for task in tasks:
                if task.done():
                    await task
            pipe.send((health.take(), hits.take()))


async def _getter(address: str) -> Any:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def get() -> None:
        writer.write(_GET)
        async with asyncio.timeout(TIMEOUT):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head.splitlines()[0], head
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().splitlines()
                if line.startswith(b"content-length")
            )
            await reader.readexactly(length)

    return get


class _Series:
    """Latencies of one call that is made repeatedly."""

    def __init__(self) -> None:
        self._latencies: list[float] = []
        self._ended = asyncio.Event()

    async def run(self, call: Any) -> None:
        while True:
            started = time.perf_counter()
            await call()
            self._latencies.append(time.perf_counter() - started)
            self._ended.set()
            self._ended = asyncio.Event()
            await asyncio.sleep(PAUSE)

    async def next(self) -> None:
        """Wait for the end of the current call."""
        await self._ended.wait()

    def take(self) -> list[float]:
        taken, self._latencies = self._latencies, []
        return taken
