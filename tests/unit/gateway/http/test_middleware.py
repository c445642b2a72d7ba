import asyncio
import json
from typing import Any

import pytest

from services.gateway.auth.caller import current_tenant
from services.gateway.auth.keys import ApiKeys
from services.gateway.auth.rights import ROUTE_RIGHTS
from services.gateway.http.middleware import Authentication, SecurityHeaders
from services.key_file import ALL_BUT_ADMIN, Key, KeyFile, sha256


def key_file_of(*rights: str) -> KeyFile:
    digest = sha256("key")
    return KeyFile({digest: Key(digest, "acme", rights=frozenset(rights))})


def keys(*rights: str) -> ApiKeys:
    return ApiKeys(key_file_of(*rights))


async def inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": current_tenant("").encode()})


async def get(
    app: Any, path: str, authorization: str = "", method: str = "GET"
) -> tuple[int, bytes, dict[str, str]]:
    """Return the status, the body and the headers of a response."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", authorization.encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    await app(scope, None, send)
    start, body = sent
    named = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], body["body"], named


@pytest.mark.parametrize(
    ("path", "method", "right"),
    [(path, *row) for path, rows in ROUTE_RIGHTS.items() for row in rows.items()],
)
async def test_a_route_requires_its_right(path: str, method: str, right: str) -> None:
    path = path.replace("{id:path}", "some/id")
    app = Authentication(inner, keys(right))
    status, body, _ = await get(app, path, "Bearer key", method)
    assert (status, body) == (200, b"acme")
    others = ALL_BUT_ADMIN - {right}
    assert (await get(Authentication(inner, keys(*others)), path, "Bearer key", method))[0] == 403
    for header in ("", "Bearer other", "key"):
        assert (await get(app, path, header, method))[0] == 401


async def test_a_path_that_no_route_answers_needs_a_key() -> None:
    app = Authentication(inner, keys("chat:write"))
    assert (await get(app, "/v1/nothing"))[0] == 401
    assert (await get(app, "/v1/nothing", "Bearer key"))[0] == 200


async def test_a_call_whose_key_is_revoked_is_refused_or_cut_off() -> None:
    valid = key_file_of("chat:write")
    known = ApiKeys(valid)
    for starts in (False, True):
        running, sent = asyncio.Event(), []

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            if starts:  # noqa: B023 - it is called in this iteration
                await send({"type": "http.response.start", "status": 200, "headers": []})
            running.set()  # noqa: B023
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)  # noqa: B023

        scope = {"type": "http", "path": "/v1/chat/completions", "method": "POST"}
        headers = [(b"authorization", b"Bearer key")]
        app = Authentication(endless, known)
        task = asyncio.create_task(app(scope | {"headers": headers}, None, send))  # type: ignore[arg-type]
        await running.wait()
        known.set_keys(KeyFile())
        await task
        assert [message.get("status") for message in sent] == ([200] if starts else [401, None])
        known.set_keys(valid)


async def test_a_refusal_has_the_shape_of_the_routes_api() -> None:
    app = Authentication(inner, keys("chat"))
    for path, name in [("/v1/ask", "reason"), ("/v1/models", "type")]:
        _, body, _ = await get(app, path)
        assert name in json.loads(body)["error"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/pages/twin.js"])
async def test_other_paths_need_no_key(path: str) -> None:
    assert (await get(Authentication(inner, keys()), path))[0] == 200


async def test_without_keys_nobody_is_refused() -> None:
    assert (await get(Authentication(inner, ApiKeys(None)), "/v1/ask"))[0] == 200


async def test_every_response_has_the_security_headers() -> None:
    _, _, headers = await get(SecurityHeaders(inner), "/")
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
