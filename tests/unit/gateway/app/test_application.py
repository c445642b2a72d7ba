from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.errors import NotFound
from services.gateway.alarms import Alarms
from services.gateway.app.application import PAGES, application
from services.gateway.auth.keys import ApiKeys
from services.key_file import KeyFile

WITHOUT_KEYS, WITH_KEYS = ApiKeys(None), ApiKeys(KeyFile())


async def ready() -> bool:
    return True


async def not_ready() -> bool:
    return False


async def broken() -> bool:
    raise NotFound("GONE", "It is gone.")


async def missing(request: Request) -> Response:
    raise NotFound("GONE", "It is gone.")


async def slow(request: Request) -> Response:
    raise TimeoutError


async def buggy(request: Request) -> Response:
    raise ZeroDivisionError("a secret")


ROUTES = [
    Route("/v1/missing", missing),
    Route("/v1/slow", slow),
    Route("/v1/chat/completions", buggy, methods=["POST"]),
    Route("/v1/ask", buggy, methods=["POST"]),
    Route("/v1/ask", buggy, methods=["PUT"]),
]


async def get(
    path: str,
    is_ready: Callable[[], Awaitable[bool]] = ready,
    keys: ApiKeys = WITHOUT_KEYS,
    method: str = "GET",
) -> httpx.Response:
    transport = httpx.ASGITransport(application(ROUTES, is_ready, keys, Alarms()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.request(method, path)


@pytest.mark.parametrize("path", ["/", "/ask", "/cache", "/pages/twin.js", "/pages/icon.svg"])
async def test_the_pages_are_served_with_security_headers(path: str) -> None:
    reply = await get(path)
    assert reply.status_code == 200
    assert "default-src 'self'" in reply.headers["content-security-policy"]
    assert "camera=(self)" in reply.headers["permissions-policy"]


@pytest.mark.parametrize(
    ("path", "lifetime"),
    [("/", "no-cache"), ("/pages/twin.js", "no-cache"), ("/pages/anton.woff2", "max-age=604800")],
)
async def test_browsers_keep_what_does_not_change(path: str, lifetime: str) -> None:
    assert lifetime in (await get(path)).headers["cache-control"]


async def test_the_files_of_the_pages_are_compressed() -> None:
    reply = await get("/pages/twin.js")
    assert reply.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_links_to_the_others_and_names_itself(path: str) -> None:
    text = (await get(path)).text
    for other in PAGES:
        own = ' aria-current="page"' if other == path else ""
        assert f'<a href="{other}"{own}>' in text


async def test_the_preview_picture_has_its_whole_address() -> None:
    assert 'content="http://gateway/pages/preview.jpg"' in (await get("/")).text


@pytest.mark.parametrize("path", ["/pages/../application.py", "/pages/%2e%2e/server.py", "/none"])
async def test_nothing_else_is_served(path: str) -> None:
    assert (await get(path)).status_code == 404


async def test_liveness_does_not_depend_on_readiness() -> None:
    assert (await get("/healthz", broken)).json() == {"status": "alive"}


@pytest.mark.parametrize(("check", "status"), [(ready, 200), (not_ready, 503), (broken, 503)])
async def test_readiness(check: Callable[[], Awaitable[bool]], status: int) -> None:
    assert (await get("/readyz", check)).status_code == status


async def test_metrics_are_those_of_prometheus() -> None:
    reply = await get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    assert "# HELP" in reply.text


async def test_with_keys_there_are_no_metrics_on_the_public_port() -> None:
    assert (await get("/metrics", keys=WITH_KEYS)).status_code in (401, 404)


async def test_hosts_are_checked_only_without_keys() -> None:
    name = "memes.example"
    for keys, names, status in [
        (WITH_KEYS, (), 401),
        (WITHOUT_KEYS, (), 403),
        (WITHOUT_KEYS, (name,), 404),
    ]:
        app = application(ROUTES, ready, keys, Alarms(), frozenset(names))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{name}") as client:
            reply = await client.get("/v1/missing")
            assert reply.status_code == status
            assert "default-src" in reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [("/v1/missing", 404, "GONE"), ("/v1/slow", 504, "DEADLINE_EXCEEDED")],
)
async def test_failures_are_answered_in_our_shape(path: str, status: int, reason: str) -> None:
    reply = await get(path)
    assert (reply.status_code, reply.json()["error"]["reason"]) == (status, reason)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat", "/v1/models/x", "/v1", "/v1/"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "BREW"])
async def test_an_unknown_route_names_the_routes_that_exist(path: str, method: str) -> None:
    reply = await get(path, method=method)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (404, "unknown_route", None)
    assert "POST /v1/chat/completions" in error["message"]


@pytest.mark.parametrize("path", ["/v1/documents/a", "/none", "/pages/none.js"])
async def test_an_unknown_route_of_our_own_is_in_our_shape(path: str) -> None:
    reply = await get(path)
    assert (reply.status_code, reply.json()["error"]["reason"]) == (404, "UNKNOWN_ROUTE")


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "BREW"])
async def test_a_wrong_method_is_answered_with_those_allowed(method: str) -> None:
    reply = await get("/v1/chat/completions", method=method)
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert reply.json()["error"]["code"] == "method_not_allowed"
    own = await get("/v1/ask", method=method)
    assert (own.status_code, own.headers["allow"]) == (405, "POST, PUT")
    assert own.json()["error"]["reason"] == "METHOD_NOT_ALLOWED"


async def test_an_error_in_a_route_keeps_the_shape_and_is_logged_with_its_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    theirs = await get("/v1/chat/completions", method="POST")
    assert (theirs.status_code, theirs.json()["error"]["type"]) == (500, "server_error")
    own = await get("/v1/ask", method="POST")
    assert (own.status_code, own.json()["error"]["reason"]) == (500, "INTERNAL")
    ids = [reply.headers["x-request-id"] for reply in (theirs, own)]
    assert [vars(record)["request_id"] for record in caplog.records] == ids
    assert "secret" not in theirs.text + own.text
