"""The caller of the current call: the tenant, the scope and the collections of its API key."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping

from services.errors import PermissionDenied
from services.key_file import ANY_USER, Key


class TokenKey(Key):
    """The caller of a token of an identity provider. No file lists it."""


Charge = Callable[[Mapping[str, float]], None]
_charge: contextvars.ContextVar[Charge | None] = contextvars.ContextVar("charge", default=None)
_caller: contextvars.ContextVar[Key | None] = contextvars.ContextVar("caller", default=None)


def set_caller(key: Key, count: Charge | None = None) -> None:
    """Set the caller of the current call, after its authentication.

    Args:
        key: its key.
        count: counts the tokens that are used for it; None if it has no limits.
    """
    _caller.set(key)
    _charge.set(count)


def charge(usage: Mapping[str, float]) -> None:
    """Count tokens, by kind, against the limits of the current caller."""
    if count := _charge.get():
        count(usage)


@contextlib.contextmanager
def uncharged() -> Iterator[None]:
    """Count no tokens of the block against the limits of the caller that has caused it."""
    token = _charge.set(None)
    try:
        yield
    finally:
        _charge.reset(token)


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


def current_scope(tenant: str, user: str, namespace: str) -> tuple[str, str, str]:
    """Return the tenant, the user and the namespace of a requested scope.

    A key that is bound to a user or to namespaces determines those that the request leaves empty.

    Raises:
        PermissionDenied: the key is not allowed to use the requested scope.
    """
    caller = _caller.get()
    tenant = current_tenant(tenant)
    if caller is None:
        return tenant, user, namespace
    if caller.user != ANY_USER:
        if user not in ("", caller.user):
            raise PermissionDenied(
                "OTHER_USER",
                "This API key belongs to another user. Leave the user empty.",
                field="scope.user",
            )
        user = caller.user
    if caller.namespaces is not None:
        namespace = namespace or caller.namespaces[0]
        if namespace not in caller.namespaces:
            raise PermissionDenied(
                "NAMESPACE_NOT_ALLOWED",
                "This API key is not allowed to use the namespace. Use one of its namespaces.",
                field="scope.namespace",
                namespaces=", ".join(caller.namespaces),
            )
    return tenant, user, namespace


def may_use_collection(name: str) -> bool:
    """Return whether the current caller may use a collection of documents or of search."""
    caller = _caller.get()
    return caller is None or caller.collections is None or name in caller.collections


def check_collection(name: str, field: str = "collection") -> None:
    """Raise PermissionDenied if the current caller is not allowed to use a collection."""
    if not may_use_collection(name):
        raise PermissionDenied(
            "COLLECTION_NOT_ALLOWED",
            f"This API key is not allowed to use the collection {name!r}.",
            field=field,
            collection=name,
        )


def current_key_name() -> str:
    """Return the id of the current caller's key, or an empty string without keys."""
    caller = _caller.get()
    return caller.id if caller else ""


def current_max_error_rate() -> float | None:
    """Return the largest share of wrong hits that the current caller's key allows, or None."""
    caller = _caller.get()
    return caller.max_error_rate if caller else None
