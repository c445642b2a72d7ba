"""Wires the gateway and runs it: ``python -m services.gateway``."""

import os

import uvloop

from services import grpc_server, telemetry
from services.gateway.app import server
from services.gateway.settings import Settings
from services.gateway.wiring import wire
from services.settings import from_env, host_port


async def main() -> None:
    """Serve gRPC and HTTP until SIGTERM or SIGINT."""
    settings = from_env(Settings, os.environ)
    telemetry.set_up(settings)
    async with (
        wire(settings) as gateway,
        server.serve(gateway.application, *host_port(settings.http_listen)) as http_server,
    ):
        await grpc_server.serve(
            gateway.service_specs, settings.listen, settings, companion=http_server
        )


if __name__ == "__main__":
    uvloop.run(main())
