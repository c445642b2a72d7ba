"""Every kind of failure that a caller can see, with its gRPC code.

Failure
├── InvalidArgument      INVALID_ARGUMENT      the request can never succeed unchanged
├── NotFound             NOT_FOUND             the named resource does not exist
├── AlreadyExists        ALREADY_EXISTS        the resource to create exists
├── FailedPrecondition   FAILED_PRECONDITION   the state of the system does not allow the call
├── Aborted              ABORTED               a concurrent call conflicts: retry from the start
├── Overloaded           RESOURCE_EXHAUSTED    a limit, a queue or the memory is exhausted
├── Unavailable          UNAVAILABLE           a dependency is unreachable: retry later
├── Unauthenticated      UNAUTHENTICATED       the call has no valid credentials
├── PermissionDenied     PERMISSION_DENIED     the credentials do not permit the call
├── DeadlineExceeded     DEADLINE_EXCEEDED     the deadline of the call has passed
└── Unimplemented        UNIMPLEMENTED         this server does not implement the call
"""

from typing import ClassVar

import grpc

DOMAIN = "memetwin"


class Failure(Exception):
    """A failure that is reported to the caller.

    Args:
        reason: UPPER_SNAKE code for programs (google.rpc.ErrorInfo.reason).
        message: tells people what is wrong and what to do; it never contains secrets.
        field: path of the invalid request field, for example ``inputs[3].image``.
        retry_after: seconds after which a retry may succeed.
        metadata: the dynamic parts of the message, for programs.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        field: str = "",
        retry_after: float | None = None,
        **metadata: object,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_after = retry_after
        self.metadata = {name: str(value)[:256] for name, value in metadata.items()}


class InvalidArgument(Failure):
    """The request can never succeed unchanged."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(Failure):
    """The named resource does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(Failure):
    """The resource to create exists."""

    code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(Failure):
    """The state of the system does not allow the call."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(Failure):
    """A concurrent call conflicts with this one. Retry from the start."""

    code = grpc.StatusCode.ABORTED


class Overloaded(Failure):
    """A limit, a queue or the memory is exhausted."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(Failure):
    """A dependency is unreachable. Retry later."""

    code = grpc.StatusCode.UNAVAILABLE


class Unauthenticated(Failure):
    """The call has no valid credentials."""

    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(Failure):
    """The credentials do not permit the call."""

    code = grpc.StatusCode.PERMISSION_DENIED


class DeadlineExceeded(Failure):
    """The deadline of the call has passed."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unimplemented(Failure):
    """This server does not implement the call."""

    code = grpc.StatusCode.UNIMPLEMENTED


KINDS: tuple[type[Failure], ...] = (
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    Aborted,
    Overloaded,
    Unavailable,
    Unauthenticated,
    PermissionDenied,
    DeadlineExceeded,
    Unimplemented,
)
