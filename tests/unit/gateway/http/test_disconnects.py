import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from services.errors import NotFound
from services.gateway.http.disconnects import CLIENT_CLOSED_REQUEST, cancel_on_disconnect


class Client:
    """Stays connected until ``leave`` is set."""

    def __init__(self) -> None:
        self.leave = asyncio.Event()
        self.request = Request({"type": "http"}, self._receive)

    async def _receive(self) -> dict[str, Any]:
        await self.leave.wait()
        return {"type": "http.disconnect"}


async def test_the_response_of_the_work_is_returned() -> None:
    async def work() -> Response:
        return Response(status_code=204)

    assert (await cancel_on_disconnect(Client().request, work())).status_code == 204


async def test_a_failure_of_the_work_is_raised() -> None:
    async def work() -> Response:
        raise NotFound("GONE", "It is gone.")

    with pytest.raises(NotFound):
        await cancel_on_disconnect(Client().request, work())


async def test_a_client_that_disconnects_cancels_the_work() -> None:
    client, is_cancelled = Client(), asyncio.Event()

    async def work() -> Response:
        try:
            client.leave.set()
            await asyncio.Event().wait()
        finally:
            is_cancelled.set()
        return Response()

    response = await cancel_on_disconnect(client.request, work())
    assert response.status_code == CLIENT_CLOSED_REQUEST
    assert is_cancelled.is_set()


async def test_cancelling_the_handler_cancels_the_work() -> None:
    started, is_cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> Response:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            is_cancelled.set()
        return Response()

    task = asyncio.create_task(cancel_on_disconnect(Client().request, work()))
    await started.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await is_cancelled.wait()
