"""Serves the cache's statistics over HTTP, loads curated entries, and takes feedback."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from memetwin.gateway.v1 import cache_pb2
from services import deadlines
from services.errors import InvalidArgument
from services.gateway import large_requests
from services.gateway.auth.caller import current_scope, current_tenant
from services.gateway.cache.comparison import PairComparison
from services.gateway.cache.error_budget.feedback import Feedback
from services.gateway.cache.headers import requested_scope
from services.gateway.cache.loading import EntryLoader, LoadReceipt
from services.gateway.cache.loading_messages import entries_from_message, receipts_to_message
from services.gateway.cache.messages import scope_from_message
from services.gateway.cache.stats_messages import stats_response
from services.gateway.cache.types import Scope
from services.gateway.cache.usage import UsageRecorder
from services.gateway.http import bodies
from services.gateway.http.disconnects import cancel_on_disconnect
from services.gateway.http.errors import receipts_response
from services.gateway.http.responses import message_to_dict

_PAIR = ("one", "other")


class CacheRoutes:
    """The routes under ``/v1/cache``, and ``POST /v1/feedback``."""

    def __init__(
        self,
        usage: UsageRecorder,
        loader: EntryLoader,
        feedback: Feedback,
        comparison: PairComparison,
    ) -> None:
        self._usage = usage
        self._loader = loader
        self._feedback = feedback
        self._comparison = comparison

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/cache/entries", self.load, methods=["POST"]),
            Route("/v1/cache/pairs", self.compare, methods=["POST"]),
            Route("/v1/cache/stats", self.stats),
            Route("/v1/feedback", self.report, methods=["POST"]),
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
        return await asyncio.to_thread(_response, receipts)

    async def report(self, request: Request) -> Response:
        """Record whether an entry was a correct answer.

        The body may name the scope. Otherwise the headers name it.
        """
        body = await bodies.json_object(request)
        entry_id, correct, prompt = _read_feedback(body)
        scope = _scope(body) if "scope" in body else requested_scope(request.headers)
        with deadlines.limit(deadlines.DEFAULT_DEADLINE):
            async with asyncio.timeout(deadlines.DEFAULT_DEADLINE):
                deleted = await self._feedback.record(scope, entry_id, prompt, correct=correct)
        return JSONResponse({"deleted": deleted})

    async def compare(self, request: Request) -> Response:
        """Compare the prompts ``one`` and ``other`` of a JSON object as a lookup does."""
        body = await bodies.json_object(request)
        with deadlines.limit(deadlines.DEFAULT_DEADLINE):
            async with asyncio.timeout(deadlines.DEFAULT_DEADLINE):
                pair = await self._comparison.compare(*(_text(body, key) for key in _PAIR))
        return JSONResponse(asdict(pair))

    async def stats(self, request: Request) -> Response:
        """Return the statistics of a tenant or of a namespace, with the history of the last day."""
        tenant = current_tenant(request.query_params.get("tenant", ""))
        namespace = request.query_params.get("namespace")
        if namespace is not None:
            current_scope(tenant, "", namespace)
        with deadlines.limit(deadlines.DEFAULT_DEADLINE):
            async with asyncio.timeout(deadlines.DEFAULT_DEADLINE):
                if namespace is None:
                    counts = await self._usage.stats(Scope(tenant), whole_tenant=True)
                else:
                    counts = await self._usage.namespace_stats(tenant, namespace)
                history = await self._usage.history(tenant, namespace)
        body = message_to_dict(stats_response(counts, history))
        return JSONResponse(body, headers={"Cache-Control": "no-store"})


def _response(receipts: Sequence[LoadReceipt]) -> Response:
    shown = message_to_dict(receipts_to_message(receipts))["receipts"]
    return receipts_response(shown, [one.failure for one in receipts if one.failure])


def _scope(body: dict[str, Any]) -> Scope:
    """Return the scope in a body.

    Raises:
        InvalidArgument: it is not a scope.
        PermissionDenied: the caller is not allowed to use it.
    """
    scope = body["scope"]
    names = ("tenant", "user", "namespace")
    if not (
        isinstance(scope, dict)
        and {*scope} <= {*names}
        and all(isinstance(name, str) for name in scope.values())
    ):
        raise InvalidArgument(
            "BAD_FEEDBACK",
            'scope must be an object such as {"user": "ann", "namespace": "faq"}.',
            field="scope",
        )
    return Scope(*current_scope(*(scope.get(name, "") for name in names)))


def _read_feedback(body: dict[str, Any]) -> tuple[str, bool, str]:
    """Return the id of an entry, whether it was correct, and the prompt that it answered.

    Raises:
        InvalidArgument: a field is missing or has another type.
    """
    kinds: dict[str, tuple[type, str]] = {
        "entry_id": (str, "the text of the response header X-Memetwin-Entry-Id"),
        "correct": (bool, "true or false"),
        "prompt": (str, "a text"),
    }
    values = {"prompt": ""} | {name: one for name, one in body.items() if one is not None}
    for name, (kind, expected) in kinds.items():
        if not isinstance(values.get(name), kind):
            raise InvalidArgument("BAD_FEEDBACK", f"{name} must be {expected}.", field=name)
    return values["entry_id"], values["correct"], values["prompt"]


def _text(body: dict[str, Any], field: str) -> str:
    """Return a text of a body, or "" without one. Raises InvalidArgument."""
    text = body.get(field, "")
    if not isinstance(text, str):
        raise InvalidArgument("BAD_PROMPT", f"{field} must be a text.", field=field)
    return text
