"""The common parts of OpenAI's routes: their deadline, and failures in OpenAI's shape."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services import deadlines
from services.errors import Failure
from services.gateway.http.errors import openai_error_response

Handler = Callable[[Request], Awaitable[Response]]


def openai_route(path: str, handler: Handler, *methods: str) -> Route:
    """Return a route that reports failures in the shape of OpenAI's API."""

    async def endpoint(request: Request) -> Response:
        try:
            with deadlines.limit(deadlines.LONG_DEADLINE):
                async with asyncio.timeout(deadlines.LONG_DEADLINE):
                    return await handler(request)
        except Failure as failure:
            return openai_error_response(failure)
        except TimeoutError:
            return openai_error_response(deadlines.exceeded())

    return Route(path, endpoint, methods=methods)
