"""Builds the gateway from its settings: the one place where its parts meet."""

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from redis.asyncio import Redis
from starlette.applications import Starlette

from memetwin.gateway.v1 import cache_pb2_grpc, chat_pb2_grpc, rag_pb2_grpc, twin_pb2_grpc
from services import grpc_channel, redis_client
from services.gateway import redis_store
from services.gateway.app.application import application
from services.gateway.auth import ApiKeys
from services.gateway.backends.backends import Backends
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.search import SearchClient
from services.gateway.cache.admin import CacheAdmin
from services.gateway.cache.calibration import Calibration
from services.gateway.cache.error_budget.controller import ErrorBudgetController
from services.gateway.cache.error_budget.feedback import Feedback
from services.gateway.cache.eviction import Eviction
from services.gateway.cache.pricing import Prices
from services.gateway.cache.routes import CacheRoutes
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.service import SemanticCache
from services.gateway.cache.servicer import CacheParts, CacheServicer
from services.gateway.cache.store import CacheStore
from services.gateway.cache.usage import UsageRecorder
from services.gateway.cache.verifier.model import Verifier
from services.gateway.chat.service import Bounds, ChatService
from services.gateway.chat.servicer import ChatServicer
from services.gateway.chat.shadow import ShadowSampler
from services.gateway.coalescing.leases import LeaseStore
from services.gateway.coalescing.singleflight import Singleflight
from services.gateway.llm.client import LanguageModelClient
from services.gateway.openai.chat import ChatRoutes
from services.gateway.openai.embeddings import EmbeddingRoutes
from services.gateway.openai.models import ModelRoutes
from services.gateway.rag.abstention import Abstention
from services.gateway.rag.extractive import ExtractiveWriter
from services.gateway.rag.generator import LanguageModelWriter
from services.gateway.rag.ingest.routes import DocumentRoutes
from services.gateway.rag.ingest.service import IngestService
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.routes import RagRoutes
from services.gateway.rag.service import RagService
from services.gateway.rag.servicer import RagServicer
from services.gateway.rag.store import CalibrationStore
from services.gateway.settings import Settings
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
    """Build the gateway; at the end let its writes finish and close its connections."""
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc_channel.dial(address))
            for address in (settings.embedder_address, settings.search_address)
        ]
        redis = redis_store.connect(settings.redis_url)
        stack.push_async_callback(redis_client.close, redis)
        backends = Backends(EmbedderClient(channels[0]), SearchClient(channels[1]))
        prefix = settings.redis_prefix
        documents = DocumentStore(redis, prefix)
        kept = _cache(settings, redis, Scopes(redis, prefix), backends, stack)
        upstream = LanguageModelClient(
            settings.llm_base_url, settings.llm_model, settings.llm_api_key
        )
        stack.push_async_callback(upstream.close)
        writer = _writer(settings, backends.embedder, upstream)
        refusals = Abstention(
            CalibrationStore(redis, prefix), documents, backends, min_score=settings.rag_min_score
        )
        answers = RagService(backends, documents, kept.cache, writer, refusals)
        stack.push_async_callback(answers.settle)
        twins = TwinService(TwinStore(redis, prefix), backends)
        ingest = IngestService(documents, backends)

        keys = ApiKeys.load(settings.api_keys_file)
        flights = Singleflight(LeaseStore(redis, settings.redis_prefix, settings.chat_lease))
        samples = ShadowSampler(kept.cache, kept.evidence, upstream)
        stack.push_async_callback(samples.close)
        bounds = Bounds(settings.chat_max_temperature, settings.cache_stale)
        chat = ChatService(
            kept.cache, kept.usage, upstream, flights, samples=samples, bounds=bounds
        )
        stack.push_async_callback(chat.close)

        async def ready() -> bool:
            return await redis_store.is_ready(redis) and await backends.ready()

        async def can_chat() -> bool:
            return bool(settings.llm_base_url) or await ready()  # it needs no cache to answer

        has_model = bool(settings.llm_base_url)
        service_specs = [
            _service_spec("Cache", CacheServicer(kept), ready, keys),
            _service_spec("Chat", ChatServicer(chat), can_chat, keys),
            _service_spec(
                "Rag", RagServicer(ingest, answers, refusals, has_model=has_model), ready, keys
            ),
            _service_spec("Twin", TwinServicer(twins), ready, keys),
        ]
        routes = ChatRoutes(chat).routes() + EmbeddingRoutes(backends.embedder).routes()
        routes += ModelRoutes(upstream, backends.embedder).routes()
        routes += CacheRoutes(kept.usage).routes() + DocumentRoutes(ingest).routes()
        routes += TwinRoutes(twins).routes() + RagRoutes(answers).routes()
        yield Gateway(service_specs, application(routes, ready, keys))


def _cache(
    settings: Settings,
    redis: Redis,
    scopes: Scopes,
    backends: Backends,
    stack: contextlib.AsyncExitStack,
) -> CacheParts:
    store = CacheStore(redis, settings.redis_prefix)
    stack.push_async_callback(store.close)
    eviction = Eviction(store, backends.search, settings.cache_memory)
    stack.push_async_callback(eviction.settle)
    usage = UsageRecorder(scopes, store, Prices.read(settings.llm_prices))
    stack.push_async_callback(usage.close)
    verifier = Verifier.load()
    evidence = ErrorBudgetController(scopes, store, backends.embedder, verifier)
    stack.push_async_callback(evidence.close)
    cache = SemanticCache(
        scopes,
        store,
        backends,
        verifier,
        eviction,
        evidence=evidence,
        min_similarity=settings.cache_min_similarity,
        ttl=settings.cache_ttl,
        stale=settings.cache_stale,
    )
    admin = CacheAdmin(scopes, store, backends.search)
    return CacheParts(
        cache,
        admin,
        usage,
        Calibration(backends.embedder, verifier),
        evidence,
        Feedback(admin, evidence, scopes, backends),
    )


def _writer(
    settings: Settings, embedder: EmbedderClient, language_model: LanguageModelClient
) -> ExtractiveWriter | LanguageModelWriter:
    """Return who writes answers from documents: a language model if one is set."""
    if not settings.llm_base_url:
        return ExtractiveWriter(embedder)
    return LanguageModelWriter(language_model, prompt_tokens=settings.rag_prompt_tokens)


_ADD: dict[str, Callable[[Any, grpc.aio.Server], None]] = {
    "Cache": cache_pb2_grpc.add_CacheServiceServicer_to_server,
    "Chat": chat_pb2_grpc.add_ChatServiceServicer_to_server,
    "Rag": rag_pb2_grpc.add_RagServiceServicer_to_server,
    "Twin": twin_pb2_grpc.add_TwinServiceServicer_to_server,
}


def _service_spec(
    name: str, servicer: Any, ready: Callable[[], Awaitable[bool]], keys: ApiKeys
) -> ServiceSpec:
    """Return the spec of a service. The permission to call it has the same name."""
    return ServiceSpec(
        f"memetwin.gateway.v1.{name}Service",
        functools.partial(_ADD[name], servicer),
        ready,
        functools.partial(keys.authenticate, name.lower()),
    )
