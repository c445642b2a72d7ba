"""Serves the cache's statistics over HTTP, and loads curated entries."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from memetwin.gateway.v1 import cache_pb2
from services import deadlines
from services.gateway import large_requests
from services.gateway.auth.caller import current_tenant
from services.gateway.cache.loading import EntryLoader
from services.gateway.cache.loading_messages import entries_from_message, receipts_to_message
from services.gateway.cache.messages import scope_from_message
from services.gateway.cache.stats_messages import stats_response
from services.gateway.cache.types import Scope
from services.gateway.cache.usage import UsageRecorder
from services.gateway.http import bodies
from services.gateway.http.disconnects import cancel_on_disconnect
from services.gateway.http.responses import message_response, message_to_dict


class CacheRoutes:
    """``POST /v1/cache/entries`` and ``/v1/cache/stats``."""

    def __init__(self, usage: UsageRecorder, loader: EntryLoader) -> None:
        self._usage = usage
        self._loader = loader

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/cache/entries", self.load, methods=["POST"]),
            Route("/v1/cache/stats", self.stats),
        ]

    async def load(self, request: Request) -> Response:
        """Store the curated entries of the LoadEntriesRequest in the body."""
        message = await bodies.json_message(request, cache_pb2.LoadEntriesRequest())
        return await cancel_on_disconnect(request, self._load(message))

    async def _load(self, message: cache_pb2.LoadEntriesRequest) -> Response:
        with deadlines.limit(deadlines.LONG_DEADLINE):
            async with asyncio.timeout(deadlines.LONG_DEADLINE):
                scope = scope_from_message(message.scope)
                entries = await large_requests.read(entries_from_message, message)
                batches = [batch async for batch in self._loader.load(scope, entries)]
        receipts = [receipt for batch in batches for receipt in batch]
        return await message_response(receipts_to_message(receipts))

    async def stats(self, request: Request) -> Response:
        """Return the statistics of a whole tenant, and the history of the last day."""
        scope = Scope(current_tenant(request.query_params.get("tenant", "")))
        with deadlines.limit(deadlines.DEFAULT_DEADLINE):
            async with asyncio.timeout(deadlines.DEFAULT_DEADLINE):
                counts = await self._usage.stats(scope, whole_tenant=True)
                history = await self._usage.history(scope.tenant)
        body = message_to_dict(stats_response(counts, history))
        return JSONResponse(body, headers={"Cache-Control": "no-store"})
