"""Every rpc of the protos, read from the descriptors, so that a new one cannot be forgotten."""

import importlib
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.attacks.names import MARKER
from tests.conftest import ROOT

GENERATED = ROOT / "protos/gen"


def methods() -> list[Any]:
    """Return the descriptors of all rpcs, those that delete last."""
    found = [
        method
        for path in sorted(GENERATED.rglob("*_pb2.py"))
        for service in _module(path).DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    return sorted(found, key=lambda method: deletes(method.name))


def deletes(name: str) -> bool:
    """Return whether an rpc may delete. Wrong entries are deleted by feedback."""
    return name.startswith(("Delete", "Purge", "Report"))


def name_of(method: Any) -> str:
    return f"{method.containing_service.name}/{method.name}"


class Reply:
    """What a caller sees of an rpc: its messages, and its error with all details.

    Attributes:
        code: the status code.
        reason: the reason of an error.
        message: the message of an error.
        messages: the response messages.
        content: everything, as bytes.
    """

    def __init__(self, messages: list[Any], error: Any = None) -> None:
        self.code = error.code() if error else grpc.StatusCode.OK
        self.message = (error.details() or "") if error else ""
        self.messages = messages
        self.reason = _reason(error) if error else ""
        trailers = [value for _, value in (error.trailing_metadata() or ())] if error else []
        self.content = b"\n".join(
            [
                *(one.SerializeToString() for one in messages),
                self.message.encode(),
                *(one if isinstance(one, bytes) else one.encode() for one in trailers),
            ]
        )

    def __repr__(self) -> str:
        return f"{self.code.name} {self.reason} {self.message} {self.messages}"[:2000]


def call(channel: grpc.Channel, method: Any, requests: list[Any], key: str) -> Reply:
    """Make a call with an API key, or without one, and return the reply."""
    response = message_factory.GetMessageClass(method.output_type)
    kind = "stream" if method.client_streaming else "unary"
    kind += "_stream" if method.server_streaming else "_unary"
    stub = getattr(channel, kind)(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=type(requests[0]).SerializeToString,
        response_deserializer=response.FromString,
    )
    argument = iter(requests) if method.client_streaming else requests[0]
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    received: list[Any] = []
    try:
        reply = stub(argument, timeout=60, metadata=metadata)
        received.extend(reply if method.server_streaming else [reply])
    except grpc.RpcError as error:
        return Reply(received, error)
    return Reply(received)


def sends_the_marker(requests: list[Any]) -> bool:
    return any(MARKER.encode() in one.SerializeToString() for one in requests)


def _reason(error: Any) -> str:
    status, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return str(info.reason)
    return ""


def _module(path: Path) -> Any:
    return importlib.import_module(".".join(path.relative_to(GENERATED).with_suffix("").parts))
