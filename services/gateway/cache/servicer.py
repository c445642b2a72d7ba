"""CacheService over gRPC: reads messages, calls the cache and writes messages."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from services.gateway import large_requests
from services.gateway.cache import loading_messages, messages
from services.gateway.cache.admin import CacheAdmin
from services.gateway.cache.calibration import Calibration, PairList
from services.gateway.cache.comparison import PairComparison
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.error_budget.feedback import Feedback
from services.gateway.cache.loading import EntryLoader
from services.gateway.cache.lookup_report import LookupReport
from services.gateway.cache.scope_names import ScopeNames
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.stats_messages import stats_response
from services.gateway.cache.types import Scope
from services.gateway.cache.usage import UsageRecorder
from services.gateway.cache.vectors import from_caller


@dataclass(frozen=True)
class CacheParts:
    """The objects that the cache's interfaces call."""

    cache: SemanticCache
    admin: CacheAdmin
    usage: UsageRecorder
    calibration: Calibration
    controller: ErrorBudgetController
    feedback: Feedback
    loader: EntryLoader
    comparison: PairComparison
    report: LookupReport
    names: ScopeNames
    scopes: Scopes


class CacheServicer(cache_pb2_grpc.CacheServiceServicer):
    """CacheService; the contract describes each rpc."""

    def __init__(self, parts: CacheParts) -> None:
        self._cache = parts.cache
        self._admin = parts.admin
        self._usage = parts.usage
        self._calibration = parts.calibration
        self._controller = parts.controller
        self._feedback = parts.feedback
        self._loader = parts.loader

    async def LookupEntry(
        self, request: cache_pb2.LookupEntryRequest, context: Any
    ) -> cache_pb2.LookupEntryResponse:
        """Look up an answer by a prompt or by a prompt's vector."""
        started = time.perf_counter()
        lookup = await large_requests.read(messages.request_from_message, request)
        mode, bound = messages.mode_from_number(request.mode), messages.bound_from_message(request)
        if request.WhichOneof("question") == "vector":
            vector = messages.vector_from_bytes(request.vector)
            vectors = from_caller(vector, request.model_digest)
            decision = await self._cache.lookup_by_vector(lookup, vectors, bound)
        else:
            decision = await self._cache.lookup(lookup, mode, bound)
        self._usage.record(lookup.scope, decision, time.perf_counter() - started, lookup)
        return messages.lookup_response(decision)

    async def CreateEntry(
        self, request: cache_pb2.CreateEntryRequest, context: Any
    ) -> cache_pb2.CreateEntryResponse:
        """Store an answer."""
        vectors = None
        if request.vector:
            vector = messages.vector_from_bytes(request.vector)
            vectors = from_caller(vector, request.model_digest)
        entry = await self._cache.put(
            await large_requests.read(messages.request_from_message, request),
            messages.new_entry_from_message(request),
            vectors=vectors,
            request_id=request.request_id,
        )
        return cache_pb2.CreateEntryResponse(entry=messages.entry_to_message(entry))

    async def LoadEntries(
        self, request_iterator: AsyncIterator[cache_pb2.LoadEntriesRequest], context: Any
    ) -> AsyncIterator[cache_pb2.LoadEntriesResponse]:
        """Store curated entries, and return their receipts."""
        scope: Scope | None = None
        async for request in request_iterator:
            scope = scope or messages.scope_from_message(request.scope)
            entries = await large_requests.read(loading_messages.entries_from_message, request)
            async for receipts in self._loader.load(scope, entries):
                yield loading_messages.receipts_to_message(receipts)

    async def GetEntry(
        self, request: cache_pb2.GetEntryRequest, context: Any
    ) -> cache_pb2.GetEntryResponse:
        """Return an entry."""
        entry = await self._admin.get(messages.scope_from_message(request.scope), request.id)
        return cache_pb2.GetEntryResponse(entry=messages.entry_to_message(entry))

    async def DeleteEntry(
        self, request: cache_pb2.DeleteEntryRequest, context: Any
    ) -> cache_pb2.DeleteEntryResponse:
        """Delete an entry."""
        await self._admin.delete(messages.scope_from_message(request.scope), request.id)
        return cache_pb2.DeleteEntryResponse()

    async def ListEntries(
        self, request: cache_pb2.ListEntriesRequest, context: Any
    ) -> cache_pb2.ListEntriesResponse:
        """List the entries of a scope."""
        page, token = await self._admin.page(
            messages.scope_from_message(request.scope), request.page_size, request.page_token
        )
        # A page may have 1,000 entries or 3 MiB.
        return await asyncio.to_thread(messages.write_entries, page, token)

    async def PurgeEntries(
        self, request: cache_pb2.PurgeEntriesRequest, context: Any
    ) -> cache_pb2.PurgeEntriesResponse:
        """Count the entries that match a filter, or delete them."""
        purge = messages.purge_request_from_message(request)
        count, sample = await self._admin.purge(messages.scope_from_message(request.scope), purge)
        return cache_pb2.PurgeEntriesResponse(
            count=count, deleted=purge.force, sample=map(messages.entry_to_message, sample)
        )

    async def ListPurges(
        self, request: cache_pb2.ListPurgesRequest, context: Any
    ) -> cache_pb2.ListPurgesResponse:
        """List the purges of a scope."""
        page, token = await self._admin.purge_records(
            messages.scope_from_message(request.scope), request.page_size, request.page_token
        )
        return cache_pb2.ListPurgesResponse(
            purges=map(messages.purge_record_to_message, page), next_page_token=token
        )

    async def ReportFeedback(
        self, request: cache_pb2.ReportFeedbackRequest, context: Any
    ) -> cache_pb2.ReportFeedbackResponse:
        """Record whether an entry was a correct answer."""
        scope = messages.scope_from_message(request.scope)
        deleted = await self._feedback.record(
            scope, request.id, request.prompt, correct=request.correct
        )
        return cache_pb2.ReportFeedbackResponse(deleted=deleted)

    async def Calibrate(
        self, request_iterator: AsyncIterator[cache_pb2.CalibrateRequest], context: Any
    ) -> cache_pb2.CalibrateResponse:
        """Find the bounds that reach a precision."""
        collected, precision = PairList(), 0.0
        async for request in request_iterator:
            precision = precision or request.precision
            await collected.extend(map(messages.labelled_pair_from_message, request.pairs))
        similarity, probability = await self._calibration.calibrate(collected.pairs, precision)
        return cache_pb2.CalibrateResponse(
            min_similarity=messages.calibrated_bound_to_message(similarity),
            min_probability=messages.calibrated_bound_to_message(probability),
        )

    async def GetStats(
        self, request: cache_pb2.GetStatsRequest, context: Any
    ) -> cache_pb2.GetStatsResponse:
        """Return the statistics of a scope or its whole tenant."""
        scope = messages.scope_from_message(request.scope)
        counts = await self._usage.stats(scope, whole_tenant=request.whole_tenant)
        counts |= await self._controller.counters(scope.tenant)
        history = await self._usage.history(scope.tenant) if request.history else []
        return stats_response(counts, history)
