"""The cache's gRPC face: translates and calls, nothing else."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from services.gateway.cache import messages
from services.gateway.cache import messages as cache_messages
from services.gateway.cache.admin import CacheAdmin
from services.gateway.cache.calibration import Calibration, Pair
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.error_budget.feedback import Feedback
from services.gateway.cache.service import SemanticCache, given
from services.gateway.cache.types import Request
from services.gateway.cache.usage import UsageRecorder


@dataclass(frozen=True)
class CacheParts:
    """What the cache is made of."""

    cache: SemanticCache
    admin: CacheAdmin
    usage: UsageRecorder
    calibration: Calibration
    evidence: ErrorBudgetController
    feedback: Feedback


class CacheServicer(cache_pb2_grpc.CacheServiceServicer):
    """CacheService over the cache."""

    def __init__(self, parts: CacheParts) -> None:
        self._cache = parts.cache
        self._admin = parts.admin
        self._usage = parts.usage
        self._calibration = parts.calibration
        self._evidence = parts.evidence
        self._feedback = parts.feedback

    async def LookupEntry(
        self, request: cache_pb2.LookupEntryRequest, context: Any
    ) -> cache_pb2.LookupEntryResponse:
        """Look for an answer by prompt, or by a vector the caller already has."""
        started = time.perf_counter()
        asked = Request(
            messages.scope(request.scope), messages.context(request.context), request.prompt
        )
        mode, bound = messages.mode(request.mode), messages.bound(request)
        if request.WhichOneof("question") == "vector":
            vectors = given(messages.vector(request.vector), request.model_digest)
            decision = await self._cache.nearest(asked, vectors, bound)
        else:
            decision = await self._cache.lookup(asked, mode, bound)
        self._usage.record(asked.scope, decision, time.perf_counter() - started)
        return messages.decided(decision)

    async def CreateEntry(
        self, request: cache_pb2.CreateEntryRequest, context: Any
    ) -> cache_pb2.CreateEntryResponse:
        """Keep an answer."""
        vectors = None
        if request.vector:
            vectors = given(messages.vector(request.vector), request.model_digest)
        entry = await self._cache.put(
            Request(
                messages.scope(request.scope), messages.context(request.context), request.prompt
            ),
            request.response,
            vectors=vectors,
            ttl=request.ttl,
            cites=list(request.cites),
            usage={
                "prompt_tokens": request.usage.prompt_tokens,
                "completion_tokens": request.usage.completion_tokens,
            },
            seconds=request.usage.seconds,
            request_id=request.request_id,
        )
        return cache_pb2.CreateEntryResponse(entry=messages.entry(entry))

    async def GetEntry(
        self, request: cache_pb2.GetEntryRequest, context: Any
    ) -> cache_pb2.GetEntryResponse:
        """Read an entry."""
        entry = await self._admin.get(messages.scope(request.scope), request.id)
        return cache_pb2.GetEntryResponse(entry=messages.entry(entry))

    async def DeleteEntry(
        self, request: cache_pb2.DeleteEntryRequest, context: Any
    ) -> cache_pb2.DeleteEntryResponse:
        """Delete an entry."""
        await self._admin.delete(messages.scope(request.scope), request.id)
        return cache_pb2.DeleteEntryResponse()

    async def ListEntries(
        self, request: cache_pb2.ListEntriesRequest, context: Any
    ) -> cache_pb2.ListEntriesResponse:
        """List entries."""
        page, token = await self._admin.page(
            messages.scope(request.scope), request.page_size, request.page_token
        )
        return cache_pb2.ListEntriesResponse(
            entries=map(messages.entry, page), next_page_token=token
        )

    async def PurgeEntries(
        self, request: cache_pb2.PurgeEntriesRequest, context: Any
    ) -> cache_pb2.PurgeEntriesResponse:
        """Delete the entries that meet a filter, or count them."""
        wanted = messages.purge(request)
        count, sample = await self._admin.purge(messages.scope(request.scope), wanted)
        return cache_pb2.PurgeEntriesResponse(
            count=count, deleted=wanted.force, sample=map(messages.entry, sample)
        )

    async def ListPurges(
        self, request: cache_pb2.ListPurgesRequest, context: Any
    ) -> cache_pb2.ListPurgesResponse:
        """List what was purged."""
        page, token = await self._admin.purged(
            messages.scope(request.scope), request.page_size, request.page_token
        )
        return cache_pb2.ListPurgesResponse(
            purges=map(messages.purged, page), next_page_token=token
        )

    async def ReportFeedback(
        self, request: cache_pb2.ReportFeedbackRequest, context: Any
    ) -> cache_pb2.ReportFeedbackResponse:
        """Take in whether an entry answered rightly."""
        scope = messages.scope(request.scope)
        gone = await self._feedback.judge(
            scope, request.id, request.prompt, correct=request.correct
        )
        return cache_pb2.ReportFeedbackResponse(deleted=gone)

    async def Calibrate(
        self, request_iterator: AsyncIterator[cache_pb2.CalibrateRequest], context: Any
    ) -> cache_pb2.CalibrateResponse:
        """Find bounds for a precision."""
        rows, precision = [], 0.0
        async for request in request_iterator:
            precision = precision or request.precision
            rows += [Pair(pair.one, pair.other, pair.same) for pair in request.pairs]
        similarity, probability = await self._calibration.find(rows, precision)
        return cache_pb2.CalibrateResponse(
            min_similarity=messages.calibrated(similarity),
            min_probability=messages.calibrated(probability),
        )

    async def GetStats(
        self, request: cache_pb2.GetStatsRequest, context: Any
    ) -> cache_pb2.GetStatsResponse:
        """Tell what the cache has done."""
        scope, whole = messages.scope(request.scope), request.whole_tenant
        counts = await self._usage.stats(scope, whole_tenant=whole)
        counts |= await self._evidence.counters(scope.tenant)
        history = await self._usage.history(scope.tenant) if request.history else []
        return cache_messages.written(counts, history)
