import hashlib
import json
from typing import Any

import pytest

from services.gateway.auth.caller import Caller, current_tenant
from services.gateway.auth.keys import ApiKeys
from services.gateway.http.middleware import Authentication, SecurityHeaders


def keys(*rights: str) -> ApiKeys:
    digest = hashlib.sha256(b"key").hexdigest()
    return ApiKeys({digest: Caller("acme", frozenset(rights))})


async def inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": current_tenant("").encode()})


async def get(app: Any, path: str, authorization: str = "") -> tuple[int, bytes, dict[str, str]]:
    """Return the status, the body and the headers of a response."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", authorization.encode())]
    await app({"type": "http", "path": path, "headers": headers}, None, send)
    start, body = sent
    named = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], body["body"], named


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/v1/twins/1/picture", "twin"),
        ("/v1/ask", "rag"),
        ("/v1/documents", "rag"),
        ("/v1/cache/stats", "cache"),
        ("/v1/chat/completions", "chat"),
        ("/v1/embeddings", "chat"),
        ("/v1/models", "chat"),
    ],
)
async def test_a_route_requires_its_right(path: str, right: str) -> None:
    status, body, _ = await get(Authentication(inner, keys(right)), path, "Bearer key")
    assert (status, body) == (200, b"acme")
    others = {"cache", "chat", "rag", "twin"} - {right}
    assert (await get(Authentication(inner, keys(*others)), path, "Bearer key"))[0] == 403
    for header in ("", "Bearer other", "key"):
        assert (await get(Authentication(inner, keys(right)), path, header))[0] == 401


async def test_a_refusal_has_the_shape_of_the_routes_api() -> None:
    app = Authentication(inner, keys("chat"))
    for path, name in [("/v1/ask", "reason"), ("/v1/models", "type")]:
        _, body, _ = await get(app, path)
        assert name in json.loads(body)["error"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/pages/page.js"])
async def test_other_paths_need_no_key(path: str) -> None:
    assert (await get(Authentication(inner, keys()), path))[0] == 200


async def test_without_keys_nobody_is_refused() -> None:
    assert (await get(Authentication(inner, ApiKeys({})), "/v1/ask"))[0] == 200


async def test_every_response_has_the_security_headers() -> None:
    _, _, headers = await get(SecurityHeaders(inner), "/")
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
