from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from services.gateway.http.request_ids import RequestIds


async def get(inner: Any) -> httpx.Response:
    transport = httpx.ASGITransport(RequestIds(inner))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get("/v1/models")


async def test_every_response_has_another_id() -> None:
    ids = {(await get(PlainTextResponse("Hi."))).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(one.startswith("req_") for one in ids)


async def test_the_id_of_the_language_model_server_stays() -> None:
    reply = await get(PlainTextResponse("Hi.", headers={"X-Request-Id": "theirs"}))
    assert reply.headers.get_list("x-request-id") == ["theirs"]


async def test_an_error_before_the_response_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    reply = await get(fail)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal")
    request_id = reply.headers["x-request-id"]
    assert request_id in reply.json()["error"]["message"]
    assert vars(caplog.records[0])["request_id"] == request_id


async def test_an_error_within_the_response_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise ZeroDivisionError

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await RequestIds(fail)({"type": "http", "path": "/v1/models"}, None, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert caplog.records
