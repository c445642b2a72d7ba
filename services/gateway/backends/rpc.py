"""Calls of the services behind the gateway: errors, circuit breakers and health checks."""

import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services import error_details
from services.errors import Failure, Unauthenticated, Unavailable
from services.gateway.circuit_breaker import CircuitBreaker

log = logging.getLogger(__name__)

_HEALTH_TIMEOUT = 1.0
# A call whose caller gave it less time says nothing about the service when it times out.
_MIN_TIMEOUT = 1.0
# Failures that depend on the request: its model, or a query that takes too long.
_REQUEST_REASONS = frozenset({"MODEL_LOADING", "MODEL_FAILED", "SHARD_TIMEOUT"})
# Begins the names of a tenant's search collections, see ``tenants``. Callers know the rest.
_TENANT_PREFIX = re.compile("tenant-[0-9a-f]{32}-")
# Then begins the names of the search collections of documents, see ``rag.ingest.types``.
_DOCUMENTS_PREFIX = re.compile("documents-|reembedded-[0-9a-f]{12}-")


class Peer:
    """A service that the gateway calls, behind a circuit breaker.

    The breaker counts only calls that the service did not answer or could not serve. Rejected
    requests, refusals due to overload and short deadlines do not open it.
    """

    def __init__(self, name: str, breaker: CircuitBreaker | None = None) -> None:
        self._name = name
        self._breaker = breaker or CircuitBreaker()

    @contextlib.asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Raise the RPC error of a call in this block as a Failure.

        Raises:
            Unavailable: the service does not answer, or the breaker is open.
            DeadlineExceeded: the service has not answered by the deadline.
        """
        if not self._breaker.allows():
            raise Unavailable(
                "NEIGHBOUR_UNAVAILABLE",
                f"The {self._name} service does not answer. Retry after the hint.",
                retry_after=self._breaker.retry_after,
                peer=self._name,
            )
        started = time.monotonic()
        try:
            yield
        except grpc.aio.AioRpcError as error:
            failure = _with_plain_names(error_details.from_rpc(error, self._name))
            self._record(error.code(), failure, time.monotonic() - started)
            raise self._as_ours(failure) from error
        self._breaker.record_success()

    def _as_ours(self, failure: Failure) -> Failure:
        """Return a failure as the caller gets it, who cannot know the gateway's own token."""
        if not isinstance(failure, Unauthenticated):
            return failure
        log.error("the %s service refuses this gateway: %s", self._name, failure.message)
        return Unavailable(
            "SERVICE_TOKEN_REFUSED",
            f"The {self._name} service refuses the gateway. Its operator must set the same"
            " MEMETWIN_SERVICE_TOKEN at both, and list a name of the gateway's certificate in"
            " MEMETWIN_TLS_CLIENT_NAMES of the service, if that is set.",
            peer=self._name,
        )

    def _record(self, code: grpc.StatusCode, failure: Failure, seconds: float) -> None:
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            if seconds >= _MIN_TIMEOUT:
                self._breaker.record_failure()
        elif code is grpc.StatusCode.UNAVAILABLE:
            if failure.reason not in _REQUEST_REASONS:
                self._breaker.record_failure()
        else:
            self._breaker.record_success()


def _with_plain_names(failure: Failure) -> Failure:
    failure.message = _TENANT_PREFIX.sub("", failure.message)
    failure.metadata = {
        name: _TENANT_PREFIX.sub("", value) for name, value in failure.metadata.items()
    }
    collection = failure.metadata.get("collection", "")
    if match := _DOCUMENTS_PREFIX.match(collection):
        failure.metadata["collection"] = collection[match.end() :]
        failure.message = failure.message.replace(collection, collection[match.end() :])
    return failure


async def is_serving(channel: grpc.aio.Channel, service: str) -> bool:
    """Return whether the health check of ``service`` says SERVING. Raises AioRpcError."""
    request = health_pb2.HealthCheckRequest(service=service)
    stub: Any = health_pb2_grpc.HealthStub(channel)
    reply = await stub.Check(request, timeout=_HEALTH_TIMEOUT)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
