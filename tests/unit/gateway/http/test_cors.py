import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.gateway.http.cors import Cors, read_origins
from services.settings import SettingError

APP = "https://app.example"


async def send(
    method: str, path: str, origin: str, origins: frozenset[str] = frozenset({APP}), **headers: str
) -> httpx.Response:
    async def answer(request: Request) -> Response:
        return Response("It.", headers={"X-Memetwin-Cache": "miss"})

    routes = [Route(one, answer, methods=["GET", "POST"]) for one in ("/v1/ask", "/readyz")]
    app = Starlette(routes=routes, middleware=[Middleware(Cors, origins)])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.request(method, path, headers={"Origin": origin, **headers})


async def preflight(origin: str, origins: frozenset[str] = frozenset({APP})) -> httpx.Response:
    asked = {"Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization, content-type, x-memetwin-user"
    return await send("OPTIONS", "/v1/ask", origin, origins, **asked)


async def test_a_preflight_request_of_an_allowed_origin_is_answered() -> None:
    reply = await preflight(APP)
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == APP
    assert "POST" in reply.headers["access-control-allow-methods"]
    allowed = reply.headers["access-control-allow-headers"]
    assert {"authorization", "content-type", "x-memetwin-user"} <= set(allowed.split(", "))
    assert "access-control-allow-credentials" not in reply.headers


async def test_other_origins_are_refused_in_the_shape_of_errors() -> None:
    for origin in ("https://evil.example", "http://app.example", "null"):
        reply = await preflight(origin)
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "foreign_origin")
        assert "access-control-allow-origin" not in reply.headers


async def test_scripts_read_the_headers_of_the_response() -> None:
    reply = await send("POST", "/v1/ask", APP)
    assert reply.headers["access-control-allow-origin"] == APP
    assert reply.headers["vary"] == "Origin"
    shown = reply.headers["access-control-expose-headers"].split(", ")
    assert {"X-Memetwin-Cache", "X-Memetwin-Entry-Id", "Age", "Retry-After"} <= set(shown)
    foreign = await send("POST", "/v1/ask", "https://evil.example")
    assert "access-control-allow-origin" not in foreign.headers


async def test_only_the_api_has_the_headers() -> None:
    assert "access-control-allow-origin" not in (await send("GET", "/readyz", APP)).headers


async def test_all_origins_may_be_allowed() -> None:
    reply = await preflight("https://any.example", frozenset({"*"}))
    assert reply.headers["access-control-allow-origin"] == "*"


def test_the_setting_lists_origins() -> None:
    assert read_origins("", has_keys=False) == frozenset()
    text = "HTTPS://App.example, http://localhost:3000"
    assert read_origins(text, has_keys=False) == {APP, "http://localhost:3000"}
    assert read_origins("*", has_keys=True) == {"*"}


@pytest.mark.parametrize("text", ["app.example", "https://app.example/", "null", "https://", "*"])
def test_what_is_not_an_origin_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="MEMETWIN_CORS_ORIGINS"):
        read_origins(text, has_keys=False)
