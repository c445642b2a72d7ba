"""What can go wrong, named once: every failure carries its gRPC code.

Failure
├── InvalidArgument      INVALID_ARGUMENT      the request can never succeed as it is
├── NotFound             NOT_FOUND             what it names does not exist
├── AlreadyExists        ALREADY_EXISTS        what it creates exists
├── FailedPrecondition   FAILED_PRECONDITION   the system must change first
├── Aborted              ABORTED               somebody else was faster: try the whole again
├── Overloaded           RESOURCE_EXHAUSTED    too much at once, or no room left
├── Unavailable          UNAVAILABLE           something we need is away: try again
├── Unauthenticated      UNAUTHENTICATED       no valid credentials
├── PermissionDenied     PERMISSION_DENIED     valid credentials without this right
├── DeadlineExceeded     DEADLINE_EXCEEDED     the caller's time is up
└── Unimplemented        UNIMPLEMENTED         not built
"""

from typing import ClassVar

import grpc

DOMAIN = "memetwin"


class Failure(Exception):
    """A failure that a caller can read.

    Args:
        reason: UPPER_SNAKE, for programs (google.rpc.ErrorInfo.reason).
        message: what is wrong and what to do, for people; never secrets or foreign error text.
        field: path of the offending request field, for example ``inputs[3].image``.
        retry_after: seconds after which the same call may succeed.
        metadata: every dynamic part of the message, for programs.
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
    """The request can never succeed as it is."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(Failure):
    """What the request names does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(Failure):
    """What the request creates exists."""

    code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(Failure):
    """The system must change before the request can succeed."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(Failure):
    """Somebody else was faster; the whole may be tried again."""

    code = grpc.StatusCode.ABORTED


class Overloaded(Failure):
    """Too much at once, or no room left."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(Failure):
    """Something we need is away; the call may be tried again."""

    code = grpc.StatusCode.UNAVAILABLE


class Unauthenticated(Failure):
    """No valid credentials."""

    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(Failure):
    """Valid credentials without this right."""

    code = grpc.StatusCode.PERMISSION_DENIED


class DeadlineExceeded(Failure):
    """The caller's time is up."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unimplemented(Failure):
    """Not built."""

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
