"""Translates between RagService's messages and the core's plain data."""

from memetwin.gateway.v1 import cache_pb2, rag_pb2
from services.gateway.backends import fields
from services.gateway.cache import messages
from services.gateway.cache.types import Bound
from services.gateway.rag.abstention import Labelled, Measured, Verdict
from services.gateway.rag.ingest.service import Kept, Receipt
from services.gateway.rag.ingest.types import Source
from services.gateway.rag.retrieval import Passage
from services.gateway.rag.service import Answer, Event, Retrieved
from services.gateway.rag.types import DEFAULT_PASSAGES, Citation, Question, Timings


def source(header: rag_pb2.IngestHeader, content: bytes) -> Source:
    """Read a document as it was streamed."""
    return Source(
        collection=header.collection,
        id=header.id,
        title=header.title,
        media_type=header.media_type,
        fields={name: fields.from_field(value) for name, value in header.fields.items()},
        content=content,
    )


def receipt(value: Receipt) -> rag_pb2.IngestDocumentsResponse:
    """Write a receipt."""
    return rag_pb2.IngestDocumentsResponse(
        id=value.id,
        status=rag_pb2.ReceiptStatus.Value(f"RECEIPT_STATUS_{value.status.upper()}"),
        version=value.version,
        chunks=value.chunks,
        embedded=value.embedded,
        reason=value.reason,
        message=value.message,
        warnings=value.warnings,
    )


def document(value: Kept, *, with_text: bool) -> rag_pb2.SourceDocument:
    """Write a document, with its text if asked to."""
    return rag_pb2.SourceDocument(
        id=value.id,
        title=value.title,
        version=value.version,
        text=value.text if with_text else "",
        fields={name: fields.to_field(item) for name, item in value.fields.items()},
        chunks=value.chunks,
        media_type=value.media_type,
    )


def question(
    request: rag_pb2.AskRequest | rag_pb2.StreamAskRequest | rag_pb2.RetrieveRequest,
) -> Question:
    """Read a question to documents. Raises InvalidArgument for a bound out of range."""
    common = {
        "text": request.question,
        "collections": list(dict.fromkeys([request.collection, *request.additional_collections])),
        "limit": request.limit or DEFAULT_PASSAGES,
        "filter": request.filter,
        "filter_key": request.filter.SerializeToString(deterministic=True),
        "diversity": request.diversity,
        "rerank": request.rerank,
    }
    if isinstance(request, rag_pb2.RetrieveRequest):
        return Question(**common)  # type: ignore[arg-type]
    control = request.cache
    return Question(
        **common,  # type: ignore[arg-type]
        scope=messages.scope(request.scope),
        history=messages.history(request.history),
        model=request.model,
        prompt_tokens=request.max_prompt_tokens,
        no_cache=control.no_cache,
        no_store=control.no_store,
        bound=Bound(
            min_similarity=messages.least_cosine(control.min_similarity)
            if control.HasField("min_similarity")
            else None,
            max_age=control.max_age if control.HasField("max_age") else None,
        ),
    )


def passage(value: Passage) -> rag_pb2.Passage:
    """Write a passage."""
    return rag_pb2.Passage(
        document_id=value.document,
        chunk_id=value.chunk,
        text=value.text,
        score=value.score,
        similarity=value.similarity,
        title=value.title,
        document_version=value.version,
        source_start=value.start,
        source_end=value.end,
        fields={name: fields.to_field(item) for name, item in value.fields.items()},  # type: ignore[arg-type]
        section=value.section,
        page=value.page,
    )


def citation(value: Citation) -> rag_pb2.Citation:
    """Write a citation."""
    return rag_pb2.Citation(
        start=value.start,
        end=value.end,
        document=value.document,
        document_version=value.version,
        chunk=value.chunk,
        source_start=value.source_start,
        source_end=value.source_end,
        quote=value.quote,
    )


def timings(value: Timings) -> rag_pb2.RagTimings:
    """Write the seconds by stage."""
    return rag_pb2.RagTimings(
        cache=value.cache,
        embed=value.embed,
        search=value.search,
        arrange=value.arrange,
        rerank=value.rerank,
        generate=value.generate,
        total=value.total,
    )


def refusal(value: Verdict) -> rag_pb2.Refusal:
    """Write why there is no answer."""
    return rag_pb2.Refusal(
        reason=rag_pb2.REFUSAL_REASON_NO_RELEVANT_CONTEXT,
        best_score=value.best_score,
        min_score=value.min_score,
        relevance=value.relevance,
    )


def retrieved(
    passages: list[Passage], verdict: Verdict, spent: Timings
) -> rag_pb2.RetrieveResponse:
    """Write what was found, and whether a question would be refused."""
    return rag_pb2.RetrieveResponse(
        passages=map(passage, passages),
        timings=timings(spent),
        refusal=refusal(verdict) if verdict.refused else None,
    )


def events(event: Event) -> list[rag_pb2.StreamAskResponse]:
    """Write what happens while a question is answered; the end brings citations and usage too."""
    message = rag_pb2.StreamAskResponse
    if isinstance(event, str):
        return [message(delta=event)]
    if isinstance(event, Retrieved):
        return [message(retrieval=rag_pb2.Retrieval(passages=map(passage, event.passages)))]
    whole = answer(event)
    cited = [message(citation=one) for one in whole.citations]
    used = [message(usage=whole.usage)] if event.usage else []
    return [*cited, *used, message(final=whole)]


def labelled(request: rag_pb2.CalibrateRefusalsRequest) -> list[Labelled]:
    """Read labelled questions."""
    return [Labelled(one.question, one.answerable) for one in request.questions]


def measured(value: Measured) -> rag_pb2.CalibrateRefusalsResponse:
    """Write what was learnt about refusals."""
    return rag_pb2.CalibrateRefusalsResponse(
        min_score=value.calibration.min_score,
        model_digest=value.digest,
        answerable_refused=value.answerable_refused,
        unanswerable_refused=value.unanswerable_refused,
        measured=value.questions,
    )


def answer(value: Answer) -> rag_pb2.AskResponse:
    """Write an answer or a refusal."""
    message = rag_pb2.AskResponse(
        answer=value.text,
        citations=map(citation, value.citations),
        timings=timings(value.timings),
        passages=map(passage, value.passages),
        decision=messages.decision(value.decision),
        model=value.model,
        usage=cache_pb2.Usage(**value.usage),
        unsupported=[rag_pb2.TextSpan(start=one.start, end=one.end) for one in value.unsupported],
        dropped_citations=value.dropped,
    )
    if value.refusal:
        message.refusal.CopyFrom(refusal(value.refusal))
    else:
        message.writer = rag_pb2.WRITER_LANGUAGE_MODEL if value.model else rag_pb2.WRITER_EXTRACTIVE
    return message
