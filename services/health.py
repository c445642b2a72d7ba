"""Serves ``grpc.health.v1.Health`` (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).

The asyncio servicer of ``grpc_health`` lacks ``List`` and never ends a ``Watch``. That would delay
every shutdown until the end of its grace period.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.errors import NotFound

_Response = health_pb2.HealthCheckResponse
NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Reports the status of each service to ``Check``, ``List`` and ``Watch``."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._shutting_down = self._closed = False

    def set(self, service: str, serving: bool) -> None:
        """Set the status of a service. After ``shut_down`` this has no effect."""
        if not self._shutting_down:
            self._set(service, _Response.SERVING if serving else _Response.NOT_SERVING)

    def shut_down(self) -> None:
        """Set every service to NOT_SERVING permanently."""
        self._shutting_down = True
        for service in self._statuses:
            self._set(service, _Response.NOT_SERVING)

    def close(self) -> None:
        """End all ``Watch`` streams."""
        self._closed = True
        self._notify()

    async def Check(  # noqa: N802 - gRPC names its methods
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """Return the status of a service.

        Raises:
            NotFound: the server has no such service.
        """
        if request.service not in self._statuses:
            raise NotFound(
                "UNKNOWN_SERVICE",
                f"This server has no service {request.service!r}. Call List for the names of its"
                " services.",
                field="service",
            )
        return _response(self._statuses[request.service])

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return the status of every service."""
        # Older versions of grpc_health do not have this message and do not register this method.
        messages: Any = health_pb2
        statuses = {name: _response(status) for name, status in self._statuses.items()}
        return messages.HealthListResponse(statuses=statuses)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Send the status of a service now and after each change, until the server stops."""
        last_status = None
        while not self._closed:
            changed = self._changed  # taken before the status is read, so no change is missed
            status = self._statuses.get(request.service, _Response.SERVICE_UNKNOWN)
            if status != last_status:
                yield _response(status)
                last_status = status
            await changed.wait()

    def _set(self, service: str, status: int) -> None:
        if self._statuses.get(service) != status:
            self._statuses[service] = status
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _response(status: Any) -> health_pb2.HealthCheckResponse:
    return _Response(status=status)
