"""Lets the web pages of chosen origins call the API from a browser (CORS).

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import PermissionDenied
from services.gateway.http import caching
from services.gateway.http.errors import failure_response
from services.settings import SettingError

ANY_ORIGIN = "*"
_METHODS = ("GET", "POST", "DELETE")
# What scripts may read besides the headers that browsers always show.
_LIMITS = ("limit", "remaining", "reset")
_EXPOSED = (
    *(caching.KIND, caching.REASON, caching.ENTRY_ID, caching.SIMILARITY, caching.AGE),
    *("X-Memetwin-Truncated-Inputs", "Retry-After", "x-request-id"),
    *(f"x-ratelimit-{name}-{unit}" for name in _LIMITS for unit in ("requests", "tokens")),
)


def read_origins(text: str, *, has_keys: bool) -> frozenset[str]:
    """Return the origins in the setting MEMETWIN_CORS_ORIGINS.

    Raises:
        SettingError: the text is not a list of origins, or allows all pages while callers need no
            key.
    """
    origins = frozenset(filter(None, text.lower().replace(" ", "").split(",")))
    for origin in origins - {ANY_ORIGIN}:
        url = urlsplit(origin)
        if not url.scheme or not url.netloc or origin != f"{url.scheme}://{url.netloc}":
            raise SettingError(
                f"MEMETWIN_CORS_ORIGINS has {origin!r}, which is not an origin. Write origins like"
                " https://app.example, separated by commas."
            )
    if ANY_ORIGIN in origins and not has_keys:
        raise SettingError(
            "MEMETWIN_CORS_ORIGINS=* needs API keys. Without keys, every web page that a visitor"
            " opens could use the gateway. Name the origins, or set MEMETWIN_API_KEYS_FILE."
        )
    return origins


class Cors:
    """Answers preflight requests, and adds the CORS headers to responses below ``/v1/``.

    Args:
        inner: the application.
        origins: origins such as ``https://app.example``, or ``*`` for all.
    """

    def __init__(self, inner: ASGIApp, origins: frozenset[str]) -> None:
        self._inner = inner
        self._cors = _Middleware(
            inner,
            origins,
            _METHODS,
            ["*"],
            allow_private_network=True,
            expose_headers=_EXPOSED,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        is_api = scope["type"] == "http" and scope["path"].startswith("/v1/")
        await (self._cors if is_api else self._inner)(scope, receive, send)


class _Middleware(CORSMiddleware):
    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight request; a refusal has the shape of other errors."""
        reply = super().preflight_response(request_headers)
        if reply.status_code == 200:  # noqa: PLR2004
            return reply
        refusal = PermissionDenied(
            "FOREIGN_ORIGIN",
            "Scripts of this origin may not send this request. MEMETWIN_CORS_ORIGINS names the"
            " allowed origins.",
            origin=request_headers["origin"],
        )
        return failure_response("/v1/", refusal)
