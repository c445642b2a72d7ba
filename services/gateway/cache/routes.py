"""Serves the cache's statistics over HTTP."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services import deadlines
from services.gateway.auth import current_tenant
from services.gateway.cache.stats_messages import stats_response
from services.gateway.cache.types import Scope
from services.gateway.cache.usage import UsageRecorder
from services.gateway.http.responses import message_to_dict


class CacheRoutes:
    """``/v1/cache/stats``."""

    def __init__(self, usage: UsageRecorder) -> None:
        self._usage = usage

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route("/v1/cache/stats", self.stats)]

    async def stats(self, request: Request) -> Response:
        """Return the statistics of a whole tenant, and the history of the last day."""
        scope = Scope(current_tenant(request.query_params.get("tenant", "")))
        with deadlines.limit(deadlines.DEFAULT_DEADLINE):
            async with asyncio.timeout(deadlines.DEFAULT_DEADLINE):
                counts = await self._usage.stats(scope, whole_tenant=True)
                history = await self._usage.history(scope.tenant)
        body = message_to_dict(stats_response(counts, history))
        return JSONResponse(body, headers={"Cache-Control": "no-store"})
