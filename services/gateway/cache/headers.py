"""The request and response headers of cache lookups over HTTP."""

from collections.abc import Mapping

from services.gateway.auth.caller import current_scope
from services.gateway.cache.types import Decision, Scope
from services.gateway.http.caching import ServedEntry, cache_headers


def requested_scope(headers: Mapping[str, str]) -> Scope:
    """Return the scope that the headers of a request name.

    Raises:
        PermissionDenied: the caller's key is not allowed to use it.
    """
    names = (headers.get(f"x-memetwin-{name}", "") for name in ("tenant", "user", "namespace"))
    return Scope(*current_scope(*names))


def decision_headers(decision: Decision) -> dict[str, str]:
    """Return the headers that report a decision of the cache."""
    entry = decision.entry
    return cache_headers(
        decision.kind,
        ServedEntry(entry.id, entry.age) if entry else None,
        decision.miss_reason or decision.bypass_reason,
        decision.similarity,
    )
