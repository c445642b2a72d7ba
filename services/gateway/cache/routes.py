"""The cache's numbers over HTTP, and the page that draws them."""

import asyncio

from google.protobuf import json_format
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from services import deadlines
from services.gateway.auth import tenant
from services.gateway.cache import statistics_messages
from services.gateway.cache.types import Scope
from services.gateway.cache.usage import Tally
from services.gateway.http.bodies import PAGES


class CacheWeb:
    """``/cache`` and what it reads."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/cache", self.page), Route("/v1/cache/stats", self.stats)]

    async def page(self, request: Request) -> Response:
        """Return the page; it holds no numbers."""
        return FileResponse(PAGES / "cache.html")

    async def stats(self, request: Request) -> Response:
        """Tell what the cache has done for all of a tenant, and a day's history."""
        scope = Scope(tenant(request.query_params.get("tenant", "")))
        with deadlines.within(deadlines.DEFAULT_DEADLINE):
            async with asyncio.timeout(deadlines.DEFAULT_DEADLINE):
                counts = await self._tally.stats(scope, whole_tenant=True)
                history = await self._tally.history(scope.tenant)
        told = json_format.MessageToDict(
            statistics_messages.written(counts, history),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        return JSONResponse(told, headers={"Cache-Control": "no-store"})
