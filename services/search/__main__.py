"""Wires the search service and runs it: ``python -m services.search``."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import uvloop

from memetwin.search.v1 import search_pb2_grpc
from services import grpc_server, redis_client, service_token
from services.grpc_server import ServiceSpec
from services.search.engines.connection import connect
from services.search.service import SearchService
from services.search.servicer import SearchServicer
from services.search.settings import Settings
from services.settings import from_env


@contextlib.asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[list[ServiceSpec]]:
    """Build the service; close its connections at the end."""
    redis = connect(settings.redis_url, settings.tls)
    service = SearchService(redis, settings.redis_prefix, settings.recall_sample)
    maintenance = asyncio.create_task(service.maintenance.run_forever())
    servicer = SearchServicer(service)
    try:
        yield [
            ServiceSpec(
                "memetwin.search.v1.SearchService",
                lambda server: search_pb2_grpc.add_SearchServiceServicer_to_server(
                    servicer, server
                ),
                service.ready,
                service_token.authenticator(settings, settings.listen),
            )
        ]
    finally:
        maintenance.cancel()
        await redis_client.close(redis)


async def main() -> None:
    """Serve until the process is asked to stop."""
    settings = from_env(Settings, os.environ)
    await grpc_server.run(wire(settings), settings.listen, settings)


if __name__ == "__main__":
    uvloop.run(main())
