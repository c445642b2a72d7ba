"""Bounds the bytes of request bodies in memory, in all and for each tenant."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from services.call_limits import MAX_BYTES, ByteBudget, too_many_bytes
from services.gateway.auth.caller import current_tenant

_KEY = "memetwin.hold_bytes"


class BodyBudget:
    """Releases what a request holds when it ends.

    It runs inside the authentication, because a tenant may hold half of all bytes.
    """

    def __init__(self, inner: ASGIApp, *, has_tenants: bool, max_bytes: int = MAX_BYTES) -> None:
        self._inner, self._has_tenants = inner, has_tenants
        self._budget = ByteBudget(max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        held, owner = 0, ""

        def hold(size: int) -> None:
            nonlocal held, owner
            if not held and self._has_tenants:
                owner = current_tenant("")
            if not self._budget.acquire(size, owner):
                raise too_many_bytes()
            held += size

        scope[_KEY] = hold
        try:
            await self._inner(scope, receive, send)
        finally:
            self._budget.release(held, owner)


def hold_bytes(request: Request, size: int) -> None:
    """Hold bytes of a body until its request ends.

    Raises:
        Overloaded: there is no room for them.
    """
    hold: Callable[[int], None] | None = request.scope.get(_KEY)
    if hold is not None:
        hold(size)
