"""Answers requests for which there is no route or no method, in the shape of the path."""

from collections.abc import Iterator

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from services.errors import Failure, InvalidArgument, NotFound, Unimplemented
from services.gateway.http.errors import failure_response

_NOT_FOUND, _NOT_ALLOWED = 404, 405
_SHOWN = 100


async def handle_http_exception(request: Request, error: Exception) -> Response:
    """Answer a request that Starlette refuses."""
    path, method = str(request.scope["path"]), request.method
    status = error.status_code if isinstance(error, HTTPException) else 0
    allowed = sorted({one for route in _matching(request) for one in route.methods or ()})
    failure: Failure
    if status == _NOT_ALLOWED and allowed:
        failure = Unimplemented(
            "METHOD_NOT_ALLOWED",
            f"{path[:_SHOWN]} does not take {method[:_SHOWN]}. Use {' or '.join(allowed)}.",
            allowed=", ".join(allowed),
        )
    elif status in (_NOT_FOUND, _NOT_ALLOWED):
        failure = NotFound(
            "UNKNOWN_ROUTE",
            f"There is no route {method[:_SHOWN]} {path[:_SHOWN]}. The routes are:"
            f" {', '.join(_names(request))}.",
        )
    else:
        failure = InvalidArgument("BAD_REQUEST", "The request is not valid. Check its headers.")
    return failure_response(path, failure)


def _routes(request: Request) -> Iterator[Route]:
    return (route for route in request.app.routes if isinstance(route, Route))


def _matching(request: Request) -> Iterator[Route]:
    """Yield the routes for the path of a request, whatever their methods are."""
    return (route for route in _routes(request) if route.matches(request.scope)[0] != Match.NONE)


def _names(request: Request) -> list[str]:
    """Return the methods and paths of the API."""
    return [
        f"{method} {route.path.replace(':path', '')}"
        for route in _routes(request)
        if route.path.startswith("/v1/")
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]
