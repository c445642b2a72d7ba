"""Wires the gateway and runs it: ``python -m services.gateway``."""

import contextlib
import functools
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import uvloop
from starlette.applications import Starlette

from memetwin.gateway.v1 import cache_pb2_grpc, chat_pb2_grpc, rag_pb2_grpc, twin_pb2_grpc
from services import addresses, serving, telemetry
from services.gateway import records, web
from services.gateway.answers import Answers
from services.gateway.cache import Cache
from services.gateway.calibration import Calibration
from services.gateway.chat import Chat
from services.gateway.clients import Embedder, Neighbours, Search
from services.gateway.flights import Flights
from services.gateway.generator import Extractive, LanguageModel
from services.gateway.ingest import Ingest
from services.gateway.keys import Keys
from services.gateway.leases import Leases
from services.gateway.ledger import Ledger
from services.gateway.library import Library
from services.gateway.openai_api import OpenAiApi
from services.gateway.refusals import Refusals
from services.gateway.server import CacheServicer, ChatServicer, RagServicer, TwinServicer
from services.gateway.settings import Settings
from services.gateway.twins import Twins
from services.gateway.uploads import Uploads
from services.gateway.upstream import Upstream
from services.gateway.verifier import Verifier
from services.serving import Face
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
            await stack.enter_async_context(serving.dial(address))
            for address in (settings.embedder_address, settings.search_address)
        ]
        redis = records.connect(settings.redis_url)
        stack.push_async_callback(addresses.close, redis)
        neighbours = Neighbours(Embedder(channels[0]), Search(channels[1]))
        book = Ledger(redis, settings.redis_prefix)
        verifier = Verifier.load()
        cache = Cache(
            book,
            neighbours,
            verifier,
            min_similarity=settings.cache_min_similarity,
            ttl=settings.cache_ttl,
        )
        stack.push_async_callback(cache.settle)
        writer: Extractive | LanguageModel = Extractive(neighbours.embedder)
        if settings.llm_base_url:
            writer = LanguageModel(
                settings.llm_base_url,
                settings.llm_model,
                settings.llm_api_key,
                prompt_tokens=settings.rag_prompt_tokens,
            )
            stack.push_async_callback(writer.close)
        refusals = Refusals(book, neighbours, min_score=settings.rag_min_score)
        answers = Answers(neighbours, book, cache, writer, refusals)
        stack.push_async_callback(answers.settle)
        twins = Twins(book, neighbours)

        keys = Keys.load(settings.api_keys_file)
        upstream = Upstream(settings.llm_base_url, settings.llm_model, settings.llm_api_key)
        stack.push_async_callback(upstream.close)
        leases = Leases(redis, settings.redis_prefix, settings.chat_lease)
        chat = Chat(cache, upstream, Flights(leases), settings.chat_max_temperature)
        stack.push_async_callback(chat.close)

        async def ready() -> bool:
            return await book.ready() and await neighbours.ready()

        async def can_chat() -> bool:
            return bool(settings.llm_base_url) or await ready()  # it needs no cache to answer

        ingest = Ingest(Library(redis, settings.redis_prefix), neighbours)
        routes = OpenAiApi(chat, neighbours.embedder, upstream).routes() + Uploads(ingest).routes()
        rag = RagServicer(ingest, answers, refusals, has_model=bool(settings.llm_base_url))
        yield Gateway(
            [
                Face(
                    "memetwin.gateway.v1.CacheService",
                    lambda server: cache_pb2_grpc.add_CacheServiceServicer_to_server(
                        CacheServicer(cache, Calibration(neighbours.embedder, verifier)), server
                    ),
                    ready,
                    functools.partial(keys.admit, "cache"),
                ),
                Face(
                    "memetwin.gateway.v1.ChatService",
                    lambda server: chat_pb2_grpc.add_ChatServiceServicer_to_server(
                        ChatServicer(chat), server
                    ),
                    can_chat,
                    functools.partial(keys.admit, "chat"),
                ),
                Face(
                    "memetwin.gateway.v1.RagService",
                    lambda server: rag_pb2_grpc.add_RagServiceServicer_to_server(rag, server),
                    ready,
                    functools.partial(keys.admit, "rag"),
                ),
                Face(
                    "memetwin.gateway.v1.TwinService",
                    lambda server: twin_pb2_grpc.add_TwinServiceServicer_to_server(
                        TwinServicer(twins), server
                    ),
                    ready,
                    functools.partial(keys.admit, "twin"),
                ),
            ],
            web.app(twins, answers, routes, ready, keys),
        )


async def main() -> None:
    """Serve gRPC and HTTP until told to stop."""
    settings = from_env(Settings, os.environ)
    telemetry.set_up(settings)
    async with (
        wire(settings) as gateway,
        web.serve(gateway.application, *host_port(settings.http_listen)),
    ):
        await serving.serve(gateway.faces, settings.listen, settings)


if __name__ == "__main__":
    uvloop.run(main())
