"""What calls to both services share: errors as failures of ours, and health."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services import error_details


@contextlib.asynccontextmanager
async def calling(peer: str) -> AsyncIterator[None]:
    """Raise what a call to ``peer`` raises as a failure of ours."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_details.from_rpc(error, peer) from error


async def is_serving(channel: grpc.aio.Channel, service: str) -> bool:
    """Say whether a service is SERVING by its own health check. Raises AioRpcError."""
    request = health_pb2.HealthCheckRequest(service=service)
    stub: Any = health_pb2_grpc.HealthStub(channel)
    reply = await stub.Check(request, timeout=1.0)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
