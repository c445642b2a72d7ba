"""Certificates that are replaced while services serve calls."""

import asyncio
import contextlib
import functools
import operator
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from memetwin.search.v1 import search_pb2, search_pb2_grpc
from tests.certificates import Authority
from tests.ports import reserve_port
from tests.service_process import ServiceProcess

LOOKUP = cache_pb2.LookupEntryRequest(prompt="Who?", mode=cache_pb2.LOOKUP_MODE_EXACT)
# Four clients send 25 calls per second each.
INTERVAL = 1 / 25
CALLS_AROUND = 50


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def gateways(redis_url: str, prefix: str, authority: Authority) -> Iterator[list[ServiceProcess]]:
    """Two gateways with certificates, which need no neighbour for exact lookups."""
    files, unused = authority.files, f"127.0.0.1:{reserve_port()}"
    settings = {
        "REDIS_URL": redis_url,
        "REDIS_PREFIX": prefix,
        "EMBEDDER_ADDRESS": unused,
        "SEARCH_ADDRESS": unused,
        "TLS_CERT": files.cert,
        "TLS_KEY": files.key,
        "TLS_CA": files.ca,
    }
    running = [ServiceProcess("gateway", **settings) for _ in range(2)]
    yield running
    for one in running:
        one.close()


def shown(address: str, authority: Authority) -> str:
    """Return the certificate that a port shows."""
    host, port = address.split(":")
    return ssl.get_server_certificate((host, int(port)), ca_certs=authority.files.ca)


def ports(gateways: list[ServiceProcess]) -> list[str]:
    return [address for one in gateways for address in (one.address, one.http_address)]


async def show(addresses: Iterable[str], authority: Authority, expected: str) -> None:
    """Wait until all ports show a certificate."""
    for address in addresses:
        while True:
            with contextlib.suppress(OSError):
                if await asyncio.to_thread(shown, address, authority) == expected:
                    break
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def clients(
    gateways: list[ServiceProcess], authority: Authority
) -> AsyncIterator[list[Callable[[], Awaitable[Any]]]]:
    """For each gateway a client over gRPC, and one over HTTP with a new connection per call."""
    roots = grpc.ssl_channel_credentials(authority.ca.read_bytes())
    trusted = ssl.create_default_context(cafile=authority.files.ca)
    async with contextlib.AsyncExitStack() as stack:
        calls: list[Callable[[], Awaitable[Any]]] = []
        for one in gateways:
            channel = await stack.enter_async_context(grpc.aio.secure_channel(one.address, roots))
            stub: Any = cache_pb2_grpc.CacheServiceStub(channel)
            calls.append(functools.partial(stub.LookupEntry, LOOKUP, timeout=30))

            async def get(address: str = one.http_address) -> None:
                async with httpx.AsyncClient(verify=trusted, trust_env=False) as client:
                    (await client.get(f"https://{address}/healthz", timeout=30)).raise_for_status()

            calls.append(get)
        yield calls


async def test_a_new_certificate_is_shown_within_five_seconds_and_no_call_fails(
    gateways: list[ServiceProcess], authority: Authority
) -> None:
    async with asyncio.timeout(300), clients(gateways, authority) as calls:
        await replace_during(calls, ports(gateways), authority)


async def test_the_services_replace_the_certificates_between_them(
    redis_url: str, prefix: str, authority: Authority
) -> None:
    files, own = authority.files, {"REDIS_URL": redis_url, "REDIS_PREFIX": f"{prefix}between:"}
    own |= {"TLS_CERT": files.cert, "TLS_KEY": files.key, "TLS_CA": files.ca}
    names = {"TLS_CLIENT_CA": files.client_ca, "TLS_CLIENT_NAMES": "localhost"}
    search = ServiceProcess("search", **own, **names)
    unused = f"127.0.0.1:{reserve_port()}"
    settings = own | {"SEARCH_ADDRESS": search.address, "EMBEDDER_ADDRESS": unused}
    gateway = ServiceProcess("gateway", **settings)
    roots = grpc.ssl_channel_credentials(authority.ca.read_bytes())
    try:
        async with (
            asyncio.timeout(300),
            grpc.aio.secure_channel(gateway.address, roots) as channel,
        ):
            stub: Any = search_pb2_grpc.SearchServiceStub(channel)
            list_all = functools.partial(
                stub.ListCollections,
                search_pb2.ListCollectionsRequest(),
                timeout=30,
                wait_for_ready=True,
            )
            await replace_during([list_all] * 4, [gateway.address, search.address], authority)
    finally:
        gateway.close()
        search.close()


async def replace_during(
    calls: Sequence[Callable[[], Awaitable[Any]]], addresses: list[str], authority: Authority
) -> None:
    """Replace the certificate while clients call, until all ports show it. No call may fail."""
    done, finished = [0] * len(calls), asyncio.Event()

    async def repeat(number: int, call: Callable[[], Awaitable[Any]]) -> None:
        while not finished.is_set():
            await call()
            done[number] += 1
            await asyncio.sleep(INTERVAL)

    async def more() -> None:
        """Wait until every client has made some more calls."""
        goal = [count + CALLS_AROUND for count in done]
        while any(map(operator.lt, done, goal)):  # noqa: ASYNC110 - simpler than many events
            await asyncio.sleep(INTERVAL)

    await show(addresses, authority, await certificate(authority))
    async with asyncio.TaskGroup() as group:
        for number, call in enumerate(calls):
            group.create_task(repeat(number, call))
        await more()
        authority.replace()
        replaced = time.monotonic()
        await show(addresses, authority, await certificate(authority))
        assert time.monotonic() - replaced < 5
        await more()
        finished.set()


async def certificate(authority: Authority) -> str:
    """Return the first certificate of the file, as ``ssl.get_server_certificate`` returns it."""
    text = await asyncio.to_thread(Path(authority.files.cert).read_text)
    end = "-----END CERTIFICATE-----"
    first = text.partition(end)[0] + end
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(first))
