"""Serves gRPC server reflection, v1 and v1alpha, so that tools can discover the services.

``grpcio-reflection`` ships v1alpha only. The messages of v1 are identical on the wire: v1 is a copy
under another package name (https://github.com/grpc/grpc-proto/tree/master/grpc/reflection). One
servicer therefore answers both, and the descriptors of v1 are derived from those of v1alpha.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

V1ALPHA = reflection.SERVICE_NAME
V1 = V1ALPHA.replace("v1alpha", "v1")


def add_to_server(service_names: Iterable[str], server: Any) -> None:
    """Register both versions of the reflection service for the named services."""
    _define_v1()
    servicer: Any = reflection.aio.ReflectionServicer([*service_names, V1, V1ALPHA])
    add: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
    add(servicer, server)
    add(servicer, _V1Registrar(server))


class _V1Registrar:
    """Registers the handlers of v1alpha under the name of v1."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Do nothing: ``add_registered_method_handlers`` gets the same handlers."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self._server.add_registered_method_handlers(V1, handlers)


def _define_v1() -> None:
    """Add the descriptors of v1 to the default pool, unless the pool has them."""
    pool: Any = descriptor_pool.Default()
    try:
        pool.FindFileContainingSymbol(V1)
    except KeyError:
        alpha = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
        text = text_format.MessageToString(alpha).replace("v1alpha", "v1")
        pool.Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))
