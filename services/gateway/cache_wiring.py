"""Builds the cache of the gateway from its settings."""

import asyncio

from services.gateway.cache.admin import CacheAdmin
from services.gateway.cache.bounds import default_bound
from services.gateway.cache.calibration import Calibration
from services.gateway.cache.comparison import PairComparison
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.error_budget.feedback import Feedback
from services.gateway.cache.error_budget.store import ObservationStore
from services.gateway.cache.eviction import Eviction, MemoryLimits
from services.gateway.cache.loading import EntryLoader
from services.gateway.cache.lookup_log import LookupLog
from services.gateway.cache.lookup_report import LookupReport
from services.gateway.cache.old_indexes import OldIndexes
from services.gateway.cache.owner_routes import OwnerRoutes
from services.gateway.cache.pricing import Prices
from services.gateway.cache.purge_store import PurgeStore
from services.gateway.cache.scope_names import ScopeNames
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.semantic_tier import SemanticTier
from services.gateway.cache.service import Lifetimes, SemanticCache
from services.gateway.cache.servicer import CacheParts
from services.gateway.cache.similarity_policy import SimilarityPolicy
from services.gateway.cache.store import CacheStore
from services.gateway.cache.usage import UsageRecorder, UsageStores
from services.gateway.cache.usage_store import UsageStore
from services.gateway.cache.verifier.model import Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier
from services.gateway.connections import Common


def build_cache(common: Common) -> CacheParts:
    """Return the parts of the cache. At the end its writes are finished."""
    settings, backends, stack = common.settings, common.backends, common.stack
    prefix = settings.redis_prefix
    scopes, store = Scopes(common.secret), CacheStore(common.redis, prefix)
    stack.push_async_callback(store.close)
    stores = _usage_stores(common)
    usage = UsageRecorder(scopes, store, stores, Prices.parse(settings.llm_prices))
    stack.push_async_callback(usage.close)
    first_stage = Verifier.load()
    verifier = PairVerifier(first_stage, backends.embedder)
    observations = ObservationStore(common.redis, prefix)
    controller = ErrorBudgetController(scopes, store, observations, backends.embedder, verifier)
    stack.push_async_callback(controller.close)
    limits = MemoryLimits.of(settings.cache_memory, settings.cache_tenant_memory)
    eviction = Eviction(store, backends.search, limits)
    stack.push_async_callback(eviction.close)
    old_indexes = OldIndexes(common.collections, backends.search, backends.embedder)
    stack.push_async_callback(cancel, asyncio.create_task(_start(old_indexes, eviction)))
    bound = default_bound(settings.cache_max_error_rate, settings.cache_min_similarity)
    semantic_tier = SemanticTier(
        *(scopes, store, backends.search, SimilarityPolicy(verifier), controller),
        embedder=backends.embedder,
        default_bound=bound,
    )
    cache = SemanticCache(
        *(scopes, store, semantic_tier, backends.embedder),
        eviction=eviction,
        controller=controller,
        lifetimes=Lifetimes(settings.cache_ttl, settings.cache_stale),
    )
    purges = PurgeStore(common.redis, prefix)
    admin = CacheAdmin(scopes, store, purges, backends.search, eviction, stores.log)
    feedback = Feedback(admin, usage, controller, scopes, backends)
    loader = EntryLoader(scopes, store, semantic_tier, backends.embedder, eviction, limits=limits)
    report = LookupReport(stores.log, scopes, store, first_stage)
    return CacheParts(
        *(cache, admin, usage, Calibration(backends.embedder), controller, feedback, loader),
        *(PairComparison(backends.embedder, verifier, bound), report, stores.names, scopes),
    )


def _usage_stores(common: Common) -> UsageStores:
    redis, prefix = common.redis, common.settings.redis_prefix
    log = LookupLog(redis, prefix, common.settings.cache_lookup_log)
    return UsageStores(UsageStore(redis, prefix), ScopeNames(redis, prefix), log)


def owner_routes(common: Common, cache: CacheParts) -> OwnerRoutes:
    """Return the routes for the owner of the cache."""
    settings = common.settings
    facts = {
        "has_prices": Prices.parse(settings.llm_prices) != Prices(),
        "lookup_log": settings.cache_lookup_log,
        "can_chat": bool(settings.llm_base_url),
    }
    return OwnerRoutes(cache.admin, cache.report, cache.names, cache.scopes, facts=facts)


async def _start(old_indexes: OldIndexes, eviction: Eviction) -> None:
    """Start the eviction after it can find the vectors of an earlier version's entries."""
    await old_indexes.adopt_all()
    eviction.start()


async def cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task, and wait until it has ended."""
    task.cancel()
    await asyncio.wait([task])
