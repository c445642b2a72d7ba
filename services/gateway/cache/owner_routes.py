"""Serves the cache's owner over HTTP: its scopes, the latest lookups, single entries and purges."""

import asyncio
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from memetwin.gateway.v1 import cache_pb2
from services import deadlines
from services.gateway.auth.caller import current_key_name, current_scope, current_tenant
from services.gateway.cache.admin import CacheAdmin
from services.gateway.cache.lookup_report import LookupReport, ReportedLookup, is_allowed
from services.gateway.cache.messages import (
    entry_to_message,
    purge_request_from_message,
    scope_from_message,
)
from services.gateway.cache.scope_names import ScopeNames
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.types import Scope
from services.gateway.http import bodies
from services.gateway.http.responses import message_response

T = TypeVar("T")
_NO_STORE = {"Cache-Control": "no-store"}


class OwnerRoutes:
    """The routes below ``/v1/cache`` that the page ``/cache`` needs beside the statistics."""

    def __init__(
        self,
        admin: CacheAdmin,
        report: LookupReport,
        names: ScopeNames,
        scopes: Scopes,
        *,
        facts: dict[str, Any],
    ) -> None:
        """Construct the routes; ``facts`` are settings that ``scopes`` reports."""
        self._admin = admin
        self._report = report
        self._names = names
        self._scopes = scopes
        self._facts = facts

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/cache/scopes", self.scopes),
            Route("/v1/cache/lookups", self.lookups),
            Route("/v1/cache/entries/{id:path}", self.entry),
            Route("/v1/cache/entries/{id:path}", self.delete, methods=["DELETE"]),
            Route("/v1/cache/purge", self.purge, methods=["POST"]),
        ]

    async def scopes(self, request: Request) -> Response:
        """Return the tenants and the namespaces that the caller can choose from."""
        tenant = current_tenant(request.query_params.get("tenant", ""))
        # A key has one tenant. Without keys, a caller may name any.
        tenants = [] if current_key_name() else await _limited(self._names.tenants())
        partition = await self._scopes.tenant_partition(tenant)
        namespaces = await _limited(self._names.namespaces(partition))
        allowed = [name for name in namespaces if _may_use_namespace(tenant, name)]
        body = {"tenants": tenants or [tenant], "namespaces": allowed, **self._facts}
        return JSONResponse(body, headers=_NO_STORE)

    async def lookups(self, request: Request) -> Response:
        """Return the latest semantic hits and misses of a tenant or of a namespace."""
        tenant = current_tenant(request.query_params.get("tenant", ""))
        namespace = request.query_params.get("namespace")
        found = await _limited(self._report.read(tenant, namespace))
        return await asyncio.to_thread(_lookups_response, found)

    async def entry(self, request: Request) -> Response:
        """Return an entry."""
        entry = await _limited(self._admin.get(_scope(request), request.path_params["id"]))
        return await message_response(entry_to_message(entry), _NO_STORE)

    async def delete(self, request: Request) -> Response:
        """Delete an entry."""
        await _limited(self._admin.delete(_scope(request), request.path_params["id"]))
        return JSONResponse({})

    async def purge(self, request: Request) -> Response:
        """Count the entries that the PurgeEntriesRequest in the body selects, or delete them."""
        message = await bodies.json_message(request, cache_pb2.PurgeEntriesRequest())
        purge, scope = purge_request_from_message(message), scope_from_message(message.scope)
        with deadlines.limit(deadlines.LONG_DEADLINE):
            async with asyncio.timeout(deadlines.LONG_DEADLINE):
                count, sample = await self._admin.purge(scope, purge)
        response = cache_pb2.PurgeEntriesResponse(
            count=count, deleted=purge.force, sample=map(entry_to_message, sample)
        )
        return await message_response(response, _NO_STORE)


async def _limited(work: Awaitable[T]) -> T:
    with deadlines.limit(deadlines.DEFAULT_DEADLINE):
        async with asyncio.timeout(deadlines.DEFAULT_DEADLINE):
            return await work


def _scope(request: Request) -> Scope:
    """Return the scope that the query names. Raises PermissionDenied as ``current_scope`` does."""
    names = (request.query_params.get(name, "") for name in ("tenant", "user", "namespace"))
    return Scope(*current_scope(*names))


def _may_use_namespace(tenant: str, namespace: str) -> bool:
    _, user, _ = current_scope(tenant, "", "")
    return is_allowed(tenant, user, namespace)


def _lookups_response(found: list[ReportedLookup]) -> Response:
    shown = [{**asdict(one.lookup), "is_stored": one.is_stored, "rule": one.rule} for one in found]
    return JSONResponse({"lookups": shown}, headers=_NO_STORE)
