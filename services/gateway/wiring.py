"""Builds the gateway from its settings; nothing else constructs its parts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.routing import Route

from memetwin.gateway.v1.admin_pb2_grpc import add_AdminServiceServicer_to_server as add_admin
from memetwin.gateway.v1.cache_pb2_grpc import add_CacheServiceServicer_to_server as add_cache
from memetwin.gateway.v1.chat_pb2_grpc import add_ChatServiceServicer_to_server as add_chat
from memetwin.gateway.v1.rag_pb2_grpc import add_RagServiceServicer_to_server as add_rag
from memetwin.gateway.v1.twin_pb2_grpc import add_TwinServiceServicer_to_server as add_twin
from services.gateway.admin.service import AdminService
from services.gateway.admin.servicer import AdminServicer
from services.gateway.admin.store import OwnedKeys
from services.gateway.app.application import application
from services.gateway.cache.admin import CacheAdmin
from services.gateway.cache.bounds import default_bound
from services.gateway.cache.calibration import Calibration
from services.gateway.cache.comparison import PairComparison
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.error_budget.feedback import Feedback
from services.gateway.cache.error_budget.store import ObservationStore
from services.gateway.cache.eviction import Eviction, MemoryLimits
from services.gateway.cache.loading import EntryLoader
from services.gateway.cache.model_store import ModelStore
from services.gateway.cache.old_indexes import OldIndexes
from services.gateway.cache.owned_entries import OwnedEntries
from services.gateway.cache.pricing import Prices
from services.gateway.cache.purge_store import PurgeStore
from services.gateway.cache.routes import CacheRoutes
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.semantic_tier import SemanticTier
from services.gateway.cache.service import Lifetimes, SemanticCache
from services.gateway.cache.servicer import CacheParts, CacheServicer
from services.gateway.cache.shadow import ShadowSampler
from services.gateway.cache.similarity_policy import SimilarityPolicy
from services.gateway.cache.store import CacheStore
from services.gateway.cache.usage import UsageRecorder
from services.gateway.cache.usage_store import UsageStore
from services.gateway.cache.verifier.model import Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier
from services.gateway.chat.fail_open import FailOpenCache
from services.gateway.chat.service import ChatService
from services.gateway.chat.servicer import ChatServicer
from services.gateway.chat.shadow import ChatShadow
from services.gateway.coalescing.leases import LeaseStore
from services.gateway.connections import Common, connect
from services.gateway.http.cors import read_origins
from services.gateway.llm.forwarding import ResponseForwarder
from services.gateway.openai.chat import ChatRoutes
from services.gateway.openai.embedding_tokens import TokenDecoder
from services.gateway.openai.embeddings import EmbeddingRoutes
from services.gateway.openai.models import ModelRoutes
from services.gateway.openai.response_ids import ResponseIds
from services.gateway.openai.response_items import ResponseItems
from services.gateway.openai.responses import ResponseRoutes, ResponseState
from services.gateway.rag.ingest.routes import DocumentRoutes
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.stored_routes import StoredDocumentRoutes
from services.gateway.rag.routes import RagRoutes
from services.gateway.rag_wiring import Rag, wire_rag
from services.gateway.redis_watch import RedisWatch
from services.gateway.reembedding.backfill import Backfill
from services.gateway.reembedding.cache_entries import EntryReembedder
from services.gateway.reembedding.documents import DocumentReembedder
from services.gateway.reembedding.service import Reembedding
from services.gateway.settings import Settings
from services.gateway.twins.likeness import Likeness
from services.gateway.twins.map import TwinMap
from services.gateway.twins.network_routes import NetworkRoutes
from services.gateway.twins.routes import TwinRoutes
from services.gateway.twins.service import TwinService
from services.gateway.twins.servicer import TwinServicer
from services.gateway.twins.store import TwinStore
from services.grpc_server import ServiceSpec


@dataclass(frozen=True)
class Gateway:
    """A wired gateway: its gRPC services and its HTTP application."""

    service_specs: list[ServiceSpec]
    application: Starlette


@contextlib.asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[Gateway]:
    """Build the gateway; at the end finish its writes and close its connections."""
    async with contextlib.AsyncExitStack() as stack:
        common = await connect(settings, stack)
        stack.push_async_callback(_cancel, await common.migration.start())
        cache = _cache(common)
        sampler = ShadowSampler(cache.controller)
        stack.push_async_callback(sampler.close)
        chat, rag = _chat(common, cache, sampler), wire_rag(common, cache, sampler)
        twins, twin_routes = _twins(common)
        service_specs = [
            common.spec("Admin", add_admin, AdminServicer(_admin(common))),
            common.spec("Cache", add_cache, CacheServicer(cache)),
            common.spec("Chat", add_chat, ChatServicer(chat), common.can_chat),
            common.spec("Rag", add_rag, rag.servicer),
            common.spec("Twin", add_twin, TwinServicer(twins)),
            *common.forwarded_specs(),
        ]
        routes = [*_routes(common, cache, chat, rag), *twin_routes]
        backfill = _backfill(common, cache.cache)
        watch = RedisWatch(common.redis, settings.redis_prefix, common.secret, common.alarms)
        reembedding = _reembed(common, _reembedding(common, cache.cache))
        work = (
            reembedding,
            backfill.watch(),
            watch.watch(),
            common.keys.watch(),
            rag.removal.watch(),
        )
        for one in work:
            stack.push_async_callback(_cancel, asyncio.create_task(one))
        app = application(
            routes,
            common.is_ready,
            common.keys,
            common.alarms,
            settings.allowed_host_names,
            cors_origins=read_origins(settings.cors_origins, has_keys=common.keys.are_required),
        )
        yield Gateway(service_specs, app)


def _routes(common: Common, cache: CacheParts, chat: ChatService, rag: Rag) -> list[Route]:
    """Return the routes of all features."""
    embedder, tokens = common.backends.embedder, common.settings.embedding_tokens
    return [
        *ChatRoutes(chat, common.settings.http_keepalive).routes(),
        *_responses(common, cache, chat).routes(),
        *EmbeddingRoutes(embedder, TokenDecoder.of_setting(embedder, tokens)).routes(),
        *ModelRoutes(common.language_model, common.backends.embedder).routes(),
        *CacheRoutes(cache.usage, cache.loader, cache.feedback, cache.comparison).routes(),
        *DocumentRoutes(rag.ingest).routes(),
        *StoredDocumentRoutes(rag.ingest, rag.removal).routes(),
        *RagRoutes(rag.service, common.settings.http_keepalive).routes(),
    ]


def _responses(common: Common, cache: CacheParts, chat: ChatService) -> ResponseRoutes:
    prefix, scopes = common.settings.redis_prefix, Scopes(common.secret)
    items = ResponseItems(common.redis, prefix, scopes, common.redis_breaker)
    return ResponseRoutes(
        chat,
        ResponseForwarder(common.language_model),
        cache.usage,
        ResponseState(ResponseIds(common.secret.read), items),
        common.settings.http_keepalive,
    )


def _cache(common: Common) -> CacheParts:
    settings, backends, stack = common.settings, common.backends, common.stack
    prefix = settings.redis_prefix
    scopes, store = Scopes(common.secret), CacheStore(common.redis, prefix)
    stack.push_async_callback(store.close)
    prices = Prices.parse(settings.llm_prices)
    usage = UsageRecorder(scopes, store, UsageStore(common.redis, prefix), prices)
    stack.push_async_callback(usage.close)
    verifier = PairVerifier(Verifier.load(), backends.embedder)
    observations = ObservationStore(common.redis, prefix)
    controller = ErrorBudgetController(scopes, store, observations, backends.embedder, verifier)
    stack.push_async_callback(controller.close)
    limits = MemoryLimits.of(settings.cache_memory, settings.cache_tenant_memory)
    eviction = Eviction(store, backends.search, limits)
    stack.push_async_callback(eviction.close)
    old_indexes = OldIndexes(common.collections, backends.search, backends.embedder)
    stack.push_async_callback(_cancel, asyncio.create_task(_start(old_indexes, eviction)))
    bound = default_bound(settings.cache_max_error_rate, settings.cache_min_similarity)
    semantic_tier = SemanticTier(
        *(scopes, store, backends.search, SimilarityPolicy(verifier), controller),
        embedder=backends.embedder,
        default_bound=bound,
    )
    cache = SemanticCache(
        scopes,
        store,
        semantic_tier,
        backends.embedder,
        eviction=eviction,
        controller=controller,
        lifetimes=Lifetimes(settings.cache_ttl, settings.cache_stale),
    )
    purges = PurgeStore(common.redis, prefix)
    admin = CacheAdmin(scopes, store, purges, backends.search, eviction)
    feedback = Feedback(admin, usage, controller, scopes, backends)
    calibration = Calibration(backends.embedder)
    loader = EntryLoader(scopes, store, semantic_tier, backends.embedder, eviction, limits=limits)
    comparison = PairComparison(backends.embedder, verifier, bound)
    return CacheParts(cache, admin, usage, calibration, controller, feedback, loader, comparison)


def _twins(common: Common) -> tuple[TwinService, list[Route]]:
    store = TwinStore(common.redis, common.settings.redis_prefix)
    backends, is_shared = common.backends, common.settings.shared_twins
    twins = TwinService(store, backends, common.tenants, is_shared=is_shared)
    routes = TwinRoutes(twins, TwinMap(store, backends, twins), Likeness(backends, twins))
    network = NetworkRoutes(twins, backends.embedder)
    return twins, [*routes.routes(), *network.routes()]


def _admin(common: Common) -> AdminService:
    redis, prefix = common.redis, common.settings.redis_prefix
    store, search = CacheStore(redis, prefix), common.backends.search
    common.stack.push_async_callback(store.close)
    return AdminService(
        common.tenants,
        Scopes(common.secret),
        OwnedEntries(redis, prefix, store, search),
        OwnedKeys(redis, prefix),
        common.collections,
    )


def _reembedding(common: Common, cache: SemanticCache) -> Reembedding:
    settings, redis, embedder = common.settings, common.redis, common.backends.embedder
    prefix, collections = settings.redis_prefix, common.collections
    documents = DocumentStore(redis, prefix)
    return Reembedding(
        redis,
        prefix,
        LeaseStore(redis, prefix, settings.chat_lease),
        embedder,
        entries=EntryReembedder(ModelStore(redis, prefix), cache, embedder, collections),
        documents=DocumentReembedder(documents, embedder, common.backends.search, collections),
        enabled=settings.reembed,
    )


def _backfill(common: Common, cache: SemanticCache) -> Backfill:
    models = ModelStore(common.redis, common.settings.redis_prefix)
    return Backfill(models, cache, common.backends.embedder)


async def _start(old_indexes: OldIndexes, eviction: Eviction) -> None:
    """Start the eviction after it can find the vectors of an earlier version's entries."""
    await old_indexes.adopt_all()
    eviction.start()


async def _reembed(common: Common, reembedding: Reembedding) -> None:
    await common.migration.done.wait()
    await reembedding.watch()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _chat(common: Common, cache: CacheParts, sampler: ShadowSampler) -> ChatService:
    settings = common.settings
    fail_open = FailOpenCache(cache.cache, common.redis_breaker, max_stale=settings.cache_stale)
    chat = ChatService(
        fail_open,
        cache.usage,
        common.language_model,
        common.singleflight(),
        ChatShadow(fail_open, sampler, common.language_model),
        max_temperature=settings.chat_max_temperature,
    )
    common.stack.push_async_callback(chat.close)
    return chat
