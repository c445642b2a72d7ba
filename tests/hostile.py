"""Attacks on the ports of a gateway: ``python -m tests.hostile KIND HOST:PORT COUNT`` until killed.

- ``slow``: COUNT connections over HTTP, each of which sends one byte of its headers per second
- ``half``: COUNT calls over gRPC without a message, on connections of 100 calls
- ``reset``: calls over gRPC that are reset at once, on COUNT connections
"""

import asyncio
import contextlib
import itertools
import sys

from tests.http2 import RawClient

METHOD = "/memetwin.gateway.v1.CacheService/LookupEntry"
CALLS_OF_CONNECTION = 100


async def slow(address: str, count: int) -> None:
    await asyncio.gather(*(_forever(_drip, address) for _ in range(count)))


async def half(address: str, count: int) -> None:
    connections = max(1, count // CALLS_OF_CONNECTION)
    calls = count // connections
    await asyncio.gather(*(_forever(_open_half, address, calls) for _ in range(connections)))


async def reset(address: str, count: int) -> None:
    await asyncio.gather(*(_forever(_reset, address) for _ in range(count)))


async def _forever(attack: object, *arguments: object) -> None:
    """Repeat an attack; the server may close its connection."""
    while True:
        with contextlib.suppress(OSError):
            await attack(*arguments)  # type: ignore[operator]
        await asyncio.sleep(0.1)


async def _drip(address: str) -> None:
    host, port = address.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    with contextlib.closing(writer):
        for byte in itertools.cycle(b"GET / HTTP/1.1\r\nX: "):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1)


async def _open_half(address: str, calls: int) -> None:
    async with RawClient(int(address.rpartition(":")[2])) as client:
        for number in range(calls):
            client.begin(METHOD)
            if number % 100 == 99:
                await client.drain()
        while True:
            await client.drain()
            await asyncio.sleep(1)


async def _reset(address: str) -> None:
    async with RawClient(int(address.rpartition(":")[2])) as client:
        while True:
            for _ in range(50):
                client.reset(client.begin(METHOD))
            await client.drain()


if __name__ == "__main__":
    kind, target, number = sys.argv[1:]
    asyncio.run({"slow": slow, "half": half, "reset": reset}[kind](target, int(number)))
