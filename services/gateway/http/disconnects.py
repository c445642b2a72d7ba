"""Ends the work for a request whose client has disconnected."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

# A client that has disconnected never sees it. It is the number that nginx logs.
CLIENT_CLOSED_REQUEST = 499


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """Return the response of ``work``. Cancel ``work`` if the client disconnects first.

    The body of the request must have been read.
    """
    working, watching = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        is_done = working.done()
        if not is_done:
            working.cancel()
    if is_done:
        return working.result()
    await asyncio.wait([working])
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
