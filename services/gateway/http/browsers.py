"""Refuses what web pages of other origins make a browser send, while no keys protect the API.

A browser sends requests to any address for any page, also to loopback. With keys, a foreign page
has no key to send. Without keys, three headers of the browser tell its requests apart:

- ``Sec-Fetch-Site`` (https://www.w3.org/TR/fetch-metadata/): only ``same-origin`` and ``none``, a
  request by the user, pass. ``same-site`` does not, because it includes every port of the machine.
- ``Origin`` (https://fetch.spec.whatwg.org/#origin-header): must be that of our own pages.
- ``Host``: under DNS rebinding, a foreign name resolves to our address, and the browser takes the
  foreign page for one of ours. So the name must be one that nobody else can own.

Clients that are not browsers send none of the first two, and are not affected.
"""

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from services.errors import Failure, PermissionDenied
from services.gateway.http.errors import failure_response

# What these serve is the same for everybody, so links to the pages work.
_OPEN = frozenset({"/", "/ask", "/talk", "/cache", "/search", "/healthz", "/readyz"})
_OPEN_FOLDER = "/pages/"
_OWN_SITES = frozenset({"", "same-origin", "none"})
# Names under these domains are not registered in the public DNS (RFC 6761, RFC 6762, and ICANN's
# reservation of "internal"). Kubernetes' names end in "svc" or "local".
_PRIVATE_DOMAINS = frozenset({"localhost", "local", "internal", "svc"})


class BrowserGuard:
    """Refuses requests to the API that a browser sends for a page of another origin.

    Args:
        inner: the application.
        allowed_hosts: names of this server, besides addresses and names of private networks.
        allowed_origins: origins whose pages may use the API.
    """

    def __init__(
        self,
        inner: ASGIApp,
        allowed_hosts: frozenset[str],
        allowed_origins: frozenset[str] = frozenset(),
    ) -> None:
        self._inner, self._allowed_origins = inner, allowed_origins
        self._allowed_hosts = allowed_hosts | {socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        reply: Any = self._inner
        path = scope["path"]
        if path not in _OPEN and not path.startswith(_OPEN_FOLDER):
            try:
                self._check(dict(scope["headers"]))
            except Failure as failure:
                reply = failure_response(path, failure)
        await reply(scope, receive, send)

    def _check(self, headers: dict[bytes, bytes]) -> None:
        """Raise PermissionDenied for a request of a foreign page."""
        host, origin, site = (
            headers.get(name, b"").decode("latin-1")
            for name in (b"host", b"origin", b"sec-fetch-site")
        )
        if host and not self._is_ours(host):
            raise PermissionDenied(
                "UNKNOWN_HOST",
                f"The gateway does not know the host {host[:100]!r}. Use its address, or add the"
                " name to MEMETWIN_ALLOWED_HOSTS.",
                host=host,
            )
        if origin and origin in self._allowed_origins:
            return
        if site not in _OWN_SITES or not self._is_own_origin(origin, host):
            raise PermissionDenied(
                "FOREIGN_ORIGIN",
                "The request comes from a web page of another origin. Open the gateway's own page,"
                " add the page's origin to MEMETWIN_CORS_ORIGINS, or configure API keys and send"
                " the request from a server.",
                origin=origin or site,
            )

    def _is_ours(self, host: str) -> bool:
        """Return whether a host is an address, a private name, or one of the allowed names."""
        name = _name(host)
        if not name:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            domain = name.rpartition(".")[2]
            return "." not in name or domain in _PRIVATE_DOMAINS or name in self._allowed_hosts
        return True

    def _is_own_origin(self, origin: str, host: str) -> bool:
        # A proxy may change the scheme, and the host to an address of its network.
        own = origin.partition("://")[2].lower()
        return (
            not origin or (own != "" and own == host.lower()) or _name(own) in self._allowed_hosts
        )


def _name(host: str) -> str:
    """Return the name in ``name:port``, without brackets and a final dot; "" if it is not valid."""
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return ""
