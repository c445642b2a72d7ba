"""Wires the gateway and runs it: ``python -m services.gateway``."""

import gc
import os
import sys

import uvloop

from services import grpc_server, telemetry
from services.gateway import migration, redis_store
from services.gateway.app import server
from services.gateway.settings import Settings
from services.gateway.wiring import wire
from services.settings import from_env, host_port

# New objects after which Python's garbage collector scans the youngest of them. A large request
# creates tens of thousands, which die with it.
_GC_THRESHOLD = 50_000
# Seconds for which a thread keeps the interpreter's lock while the event loop waits for it. A
# lookup waits several times, so with Python's default of 5 ms, large requests that are read in
# threads would delay it by tens of milliseconds.
_SWITCH_INTERVAL = 0.0005


async def main() -> None:
    """Serve gRPC and HTTP until SIGTERM or SIGINT."""
    settings = from_env(Settings, os.environ)
    telemetry.set_up(settings)
    if settings.migration_dry_run:
        redis = redis_store.connect(settings.redis_url, settings.tls)
        await migration.preview(redis, settings.redis_prefix)
        return
    http_listen = host_port(settings.http_listen)
    async with (
        wire(settings) as gateway,
        server.serve(gateway.application, *http_listen, settings.tls) as http_server,
    ):
        # Existing objects stay, so the collector does not have to scan them during a request.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        sys.setswitchinterval(_SWITCH_INTERVAL)
        await grpc_server.serve(
            gateway.service_specs, settings.listen, settings, companion=http_server
        )


if __name__ == "__main__":
    uvloop.run(main())
