"""The common parts of both services' clients: error translation and health checks."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services import error_details

_HEALTH_TIMEOUT = 1.0


@contextlib.asynccontextmanager
async def rpc_errors(peer: str) -> AsyncIterator[None]:
    """Turn the RPC error of a call to the service ``peer`` into a Failure."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_details.from_rpc(error, peer) from error


async def is_serving(channel: grpc.aio.Channel, service: str) -> bool:
    """Return whether the health check of ``service`` says SERVING. Raises AioRpcError."""
    request = health_pb2.HealthCheckRequest(service=service)
    stub: Any = health_pb2_grpc.HealthStub(channel)
    reply = await stub.Check(request, timeout=_HEALTH_TIMEOUT)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
