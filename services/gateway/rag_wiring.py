"""Wires the RAG feature: the ingest of documents, their removal, and the answers."""

from dataclasses import dataclass

from services.gateway.cache.servicer import CacheParts
from services.gateway.cache.shadow import ShadowSampler
from services.gateway.connections import Common
from services.gateway.rag.abstention import Abstention
from services.gateway.rag.answer_cache import AnswerCache
from services.gateway.rag.extractive import ExtractiveWriter
from services.gateway.rag.generator import LanguageModelWriter
from services.gateway.rag.grounding.service import Grounding
from services.gateway.rag.grounding.support import EmbedderSupport
from services.gateway.rag.ingest.parser_pool import ParserPool
from services.gateway.rag.ingest.removal import CollectionRemoval
from services.gateway.rag.ingest.service import IngestService
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.writer import DocumentWriter
from services.gateway.rag.service import RagService
from services.gateway.rag.servicer import RagServicer
from services.gateway.rag.store import CalibrationStore


@dataclass(frozen=True)
class Rag:
    """The parts of the RAG feature."""

    service: RagService
    ingest: IngestService
    servicer: RagServicer
    removal: CollectionRemoval


def wire_rag(common: Common, cache: CacheParts, sampler: ShadowSampler) -> Rag:
    """Return the parts of the feature. They are closed with the stack of ``common``."""
    settings, backends, model = common.settings, common.backends, common.language_model
    documents = DocumentStore(common.redis, settings.redis_prefix)
    calibrations = CalibrationStore(common.redis, settings.redis_prefix, documents)
    abstention = Abstention(
        calibrations, backends, common.tenants, min_score=settings.rag_min_score
    )
    writer: ExtractiveWriter | LanguageModelWriter = ExtractiveWriter(backends.embedder)
    if settings.llm_base_url:
        grounding = Grounding(EmbedderSupport(backends.embedder))
        writer = LanguageModelWriter(model, grounding, max_prompt_tokens=settings.rag_prompt_tokens)
    service = RagService(
        backends,
        AnswerCache(cache.cache, documents, cache.usage),
        writer,
        abstention,
        common.singleflight(),
        tenants=common.tenants,
        shadow_sampler=sampler,
    )
    common.stack.push_async_callback(service.close)
    parsers = ParserPool()
    common.stack.push_async_callback(parsers.close)
    ingest = IngestService(documents, backends, parsers, common.tenants, settings.rag_chunk_tokens)
    writer_of_documents = DocumentWriter(documents, backends)
    removal = CollectionRemoval(documents, writer_of_documents, common.collections, common.tenants)
    return Rag(service, ingest, RagServicer(ingest, service, abstention), removal)
