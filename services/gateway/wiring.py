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
from services.gateway.cache.lookup_log import LookupLog
from services.gateway.cache.model_store import ModelStore
from services.gateway.cache.owned_entries import OwnedEntries
from services.gateway.cache.routes import CacheRoutes
from services.gateway.cache.scope_names import ScopeNames
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.servicer import CacheParts, CacheServicer
from services.gateway.cache.shadow import ShadowSampler
from services.gateway.cache.store import CacheStore
from services.gateway.cache_wiring import build_cache, cancel, owner_routes
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
        stack.push_async_callback(cancel, await common.migration.start())
        cache = build_cache(common)
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
            stack.push_async_callback(cancel, asyncio.create_task(one))
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
        *owner_routes(common, cache).routes(),
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
        names=ScopeNames(redis, prefix),
        lookups=LookupLog(redis, prefix, common.settings.cache_lookup_log),
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


async def _reembed(common: Common, reembedding: Reembedding) -> None:
    await common.migration.done.wait()
    await reembedding.watch()


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
