"""Wires the gateway and runs it: ``python -m services.gateway``."""

import contextlib
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import uvloop
from redis.asyncio import Redis
from starlette.applications import Starlette

from memetwin.gateway.v1 import cache_pb2_grpc, chat_pb2_grpc, rag_pb2_grpc, twin_pb2_grpc
from services import grpc_server, redis_client, telemetry
from services.gateway import redis_store
from services.gateway.app import application as app_application
from services.gateway.auth import Keys
from services.gateway.backends.types import Embedder, Neighbours, Search
from services.gateway.cache.admin import Inventory
from services.gateway.cache.calibration import Calibration
from services.gateway.cache.error_budget.controller import Evidence
from services.gateway.cache.error_budget.feedback import Feedback
from services.gateway.cache.eviction import Eviction
from services.gateway.cache.pricing import Prices
from services.gateway.cache.routes import CacheWeb
from services.gateway.cache.scopes import Partitions
from services.gateway.cache.service import Cache
from services.gateway.cache.servicer import CacheParts, CacheServicer
from services.gateway.cache.store import Shelf
from services.gateway.cache.usage import Tally
from services.gateway.cache.verifier.model import Verifier
from services.gateway.chat.service import Bounds, Chat
from services.gateway.chat.shadow import Samples
from services.gateway.coalescing.leases import Leases
from services.gateway.coalescing.singleflight import Flights
from services.gateway.ledger import Ledger
from services.gateway.llm.client import Upstream
from services.gateway.openai.api import OpenAiApi
from services.gateway.rag.abstention import Refusals
from services.gateway.rag.generator import Extractive, LanguageModel
from services.gateway.rag.ingest.routes import Uploads
from services.gateway.rag.ingest.service import Ingest
from services.gateway.rag.ingest.store import Library
from services.gateway.rag.service import Answers
from services.gateway.rag.servicer import ChatServicer, RagServicer, TwinServicer
from services.gateway.settings import Settings
from services.gateway.twins.service import Twins
from services.grpc_server import Face
from services.settings import from_env, host_port


@dataclass(frozen=True)
class Gateway:
    """A wired gateway: its gRPC faces and its HTTP application."""

    faces: list[Face]
    application: Starlette


@contextlib.asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[Gateway]:
    """Build the gateway; at the end let its writes finish and close its connections."""
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc_server.dial(address))
            for address in (settings.embedder_address, settings.search_address)
        ]
        redis = redis_store.connect(settings.redis_url)
        stack.push_async_callback(redis_client.close, redis)
        neighbours = Neighbours(Embedder(channels[0]), Search(channels[1]))
        book = Ledger(redis, settings.redis_prefix)
        kept = _cache(settings, redis, Partitions(book), neighbours, stack)
        writer = _writer(settings, neighbours.embedder, stack)
        refusals = Refusals(book, neighbours, min_score=settings.rag_min_score)
        answers = Answers(neighbours, book, kept.cache, writer, refusals)
        stack.push_async_callback(answers.settle)
        twins, ingest = (
            Twins(book, neighbours),
            Ingest(Library(redis, settings.redis_prefix), neighbours),
        )

        keys = Keys.load(settings.api_keys_file)
        upstream = Upstream(settings.llm_base_url, settings.llm_model, settings.llm_api_key)
        stack.push_async_callback(upstream.close)
        flights = Flights(Leases(redis, settings.redis_prefix, settings.chat_lease))
        samples = Samples(kept.cache, kept.evidence, upstream)
        stack.push_async_callback(samples.close)
        bounds = Bounds(settings.chat_max_temperature, settings.cache_stale)
        chat = Chat(kept.cache, kept.tally, upstream, flights, samples=samples, bounds=bounds)
        stack.push_async_callback(chat.close)

        async def ready() -> bool:
            return await book.ready() and await neighbours.ready()

        async def can_chat() -> bool:
            return bool(settings.llm_base_url) or await ready()  # it needs no cache to answer

        has_model = bool(settings.llm_base_url)
        faces = [
            _face("Cache", CacheServicer(kept), ready, keys),
            _face("Chat", ChatServicer(chat), can_chat, keys),
            _face("Rag", RagServicer(ingest, answers, refusals, has_model=has_model), ready, keys),
            _face("Twin", TwinServicer(twins), ready, keys),
        ]
        routes = OpenAiApi(chat, neighbours.embedder, upstream).routes()
        routes += CacheWeb(kept.tally).routes() + Uploads(ingest).routes()
        yield Gateway(faces, app_application.app(twins, answers, routes, ready, keys))


def _cache(
    settings: Settings,
    redis: Redis,
    partitions: Partitions,
    neighbours: Neighbours,
    stack: contextlib.AsyncExitStack,
) -> CacheParts:
    shelf = Shelf(redis, settings.redis_prefix)
    stack.push_async_callback(shelf.close)
    eviction = Eviction(shelf, neighbours.search, settings.cache_memory)
    stack.push_async_callback(eviction.settle)
    tally = Tally(partitions, shelf, Prices.read(settings.llm_prices))
    stack.push_async_callback(tally.close)
    verifier = Verifier.load()
    evidence = Evidence(partitions, shelf, neighbours.embedder, verifier)
    stack.push_async_callback(evidence.close)
    cache = Cache(
        partitions,
        shelf,
        neighbours,
        verifier,
        eviction,
        evidence=evidence,
        min_similarity=settings.cache_min_similarity,
        ttl=settings.cache_ttl,
        stale=settings.cache_stale,
    )
    inventory = Inventory(partitions, shelf, neighbours.search)
    return CacheParts(
        cache,
        inventory,
        tally,
        Calibration(neighbours.embedder, verifier),
        evidence,
        Feedback(inventory, evidence, partitions, neighbours),
    )


def _writer(
    settings: Settings, embedder: Embedder, stack: contextlib.AsyncExitStack
) -> Extractive | LanguageModel:
    """Return who writes answers from documents: a language model if one is set."""
    if not settings.llm_base_url:
        return Extractive(embedder)
    model = LanguageModel(
        settings.llm_base_url,
        settings.llm_model,
        settings.llm_api_key,
        prompt_tokens=settings.rag_prompt_tokens,
    )
    stack.push_async_callback(model.close)
    return model


_ADD: dict[str, Callable[[Any, grpc.aio.Server], None]] = {
    "Cache": cache_pb2_grpc.add_CacheServiceServicer_to_server,
    "Chat": chat_pb2_grpc.add_ChatServiceServicer_to_server,
    "Rag": rag_pb2_grpc.add_RagServiceServicer_to_server,
    "Twin": twin_pb2_grpc.add_TwinServiceServicer_to_server,
}


def _face(name: str, servicer: Any, ready: Callable[[], Awaitable[bool]], keys: Keys) -> Face:
    """Return the face of a service; the right to it has its name."""
    return Face(
        f"memetwin.gateway.v1.{name}Service",
        functools.partial(_ADD[name], servicer),
        ready,
        functools.partial(keys.admit, name.lower()),
    )


async def main() -> None:
    """Serve gRPC and HTTP until told to stop."""
    settings = from_env(Settings, os.environ)
    telemetry.set_up(settings)
    async with (
        wire(settings) as gateway,
        app_application.serve(gateway.application, *host_port(settings.http_listen)),
    ):
        await grpc_server.serve(gateway.faces, settings.listen, settings)


if __name__ == "__main__":
    uvloop.run(main())
