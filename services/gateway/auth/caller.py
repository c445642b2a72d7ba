"""The caller of the current call, and what its API key determines: its tenant and its bounds."""

import contextvars
from dataclasses import dataclass

from services.errors import PermissionDenied


@dataclass(frozen=True)
class Caller:
    """The owner of an API key.

    Attributes:
        tenant: the tenant that the key belongs to.
        rights: what the key may be used for.
        key_name: the first eight digits of the key's hash, for logs and records.
        max_error_rate: the bound for calls that name none, or None.
    """

    tenant: str
    rights: frozenset[str]
    key_name: str = ""
    max_error_rate: float | None = None


_caller: contextvars.ContextVar[Caller | None] = contextvars.ContextVar("caller", default=None)


def set_caller(caller: Caller) -> None:
    """Set the caller of the current call, after its authentication."""
    _caller.set(caller)


def current_tenant(requested: str) -> str:
    """Return the tenant of the current call: that of the key, or the requested one without keys.

    Raises:
        PermissionDenied: the key does not belong to the requested tenant.
    """
    caller = _caller.get()
    if caller is None:
        return requested
    if requested not in ("", caller.tenant):
        raise PermissionDenied(
            "OTHER_TENANT",
            "This API key belongs to another tenant. Leave the tenant empty.",
            field="scope.tenant",
        )
    return caller.tenant


def current_key_name() -> str:
    """Return the name of the current caller's key, or an empty string without keys."""
    caller = _caller.get()
    return caller.key_name if caller else ""


def current_max_error_rate() -> float | None:
    """Return the largest share of wrong hits that the current caller's key allows, or None."""
    caller = _caller.get()
    return caller.max_error_rate if caller else None
