"""Asks a server for its health: ``python -m services.probe ADDRESS NAME`` exits with 0 or 1.

The probes of Kubernetes cannot use TLS, so its pods run this instead when their ports use TLS.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.grpc_channel import dial_blocking
from services.settings import CommonSettings, TlsFiles, from_env

TIMEOUT = 2.0


def is_serving(address: str, name: str, files: TlsFiles) -> bool:
    """Return whether the server at an address reports SERVING for a name."""
    with dial_blocking(address, files) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT)
        except grpc.RpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def main(arguments: Sequence[str]) -> int:
    """Return the exit code for an address and a name of ``grpc.health.v1``."""
    address, name = arguments
    return 0 if is_serving(address, name, from_env(CommonSettings, os.environ).tls) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
