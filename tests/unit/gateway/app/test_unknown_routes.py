import json

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.gateway.app.unknown_routes import handle_http_exception


async def answer(request: Request) -> Response:
    return PlainTextResponse("Hi.")


APP = Starlette(
    routes=[
        Route("/", answer),
        Route("/v1/things", answer),
        Route("/v1/things", answer, methods=["POST"]),
        Route("/v1/things/{id:path}/part", answer),
    ]
)


def request(path: str, method: str = "PUT", host: bytes = b"gateway") -> Request:
    headers = [(b"host", host)]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "app": APP}
    return Request(scope)


async def test_an_unknown_path_names_the_routes() -> None:
    response = await handle_http_exception(request("/v1/nothing"), HTTPException(404))
    error = json.loads(bytes(response.body))["error"]
    assert response.status_code == 404
    assert error["message"] == (
        "There is no route PUT /v1/nothing. The routes are: GET /v1/things, POST /v1/things,"
        " GET /v1/things/{id}/part."
    )


async def test_a_wrong_method_is_answered_with_those_of_all_routes_of_the_path() -> None:
    response = await handle_http_exception(request("/v1/things"), HTTPException(405))
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize("host", [b"[::1", b"\xff", b"a b"])
async def test_an_odd_host_changes_nothing(host: bytes) -> None:
    response = await handle_http_exception(request("/v1/x", host=host), HTTPException(404))
    assert response.status_code == 404


async def test_any_other_refusal_is_a_bad_request() -> None:
    response = await handle_http_exception(request("/v1/things"), HTTPException(400))
    assert (response.status_code, json.loads(bytes(response.body))["error"]["code"]) == (
        400,
        "bad_request",
    )
