"""Translates RagService's messages of questions and answers to plain data and back."""

from dataclasses import replace

from memetwin.gateway.v1 import cache_pb2, rag_pb2
from services.errors import InvalidArgument
from services.gateway.backends import fields
from services.gateway.cache import messages
from services.gateway.rag.abstention import CalibrationReport, LabelledQuestion
from services.gateway.rag.timings import Timings
from services.gateway.rag.types import (
    DEFAULT_LIMIT,
    Answer,
    Citation,
    Event,
    GroundingMode,
    Passage,
    Question,
    RefusalDecision,
    Retrieved,
    Unsupported,
)

_GROUNDING: dict[int, GroundingMode] = {
    rag_pb2.GROUNDING_UNSPECIFIED: "mark",
    rag_pb2.GROUNDING_MARK: "mark",
    rag_pb2.GROUNDING_DROP: "drop",
    rag_pb2.GROUNDING_OFF: "off",
}
_UNSUPPORTED = {
    "no_citation": rag_pb2.UNSUPPORTED_REASON_NO_CITATION,
    "number": rag_pb2.UNSUPPORTED_REASON_NUMBER,
    "name": rag_pb2.UNSUPPORTED_REASON_NAME,
    "negation": rag_pb2.UNSUPPORTED_REASON_NEGATION,
    "not_found": rag_pb2.UNSUPPORTED_REASON_NOT_FOUND,
}


def read_question(
    request: rag_pb2.AskRequest | rag_pb2.StreamAskRequest | rag_pb2.RetrieveRequest,
) -> Question:
    """Return the question of a request.

    Raises:
        InvalidArgument: a bound is out of range, or there are too many messages.
    """
    messages.check_count(request.history, "history")
    common = {
        "text": request.question,
        "collections": list(dict.fromkeys([request.collection, *request.additional_collections])),
        "limit": request.limit or DEFAULT_LIMIT,
        "filter": request.filter,
        "filter_key": request.filter.SerializeToString(deterministic=True),
        "diversity": request.diversity,
        "rerank": request.rerank,
        "history": messages.history_from_messages(request.history),
    }
    if isinstance(request, rag_pb2.RetrieveRequest):
        return Question(**common)  # type: ignore[arg-type]
    control = request.cache
    return Question(
        **common,  # type: ignore[arg-type]
        scope=messages.scope_from_message(request.scope),
        model=request.model,
        max_prompt_tokens=request.max_prompt_tokens,
        grounding=_read_grounding(request.grounding),
        no_cache=control.no_cache,
        no_store=control.no_store,
        bound=replace(
            messages.bound_from_message(control),
            max_age=control.max_age if control.HasField("max_age") else None,
        ),
    )


def _read_grounding(value: int) -> GroundingMode:
    if value not in _GROUNDING:
        raise InvalidArgument(
            "BAD_GROUNDING", "grounding must be MARK, DROP or OFF.", field="grounding"
        )
    return _GROUNDING[value]


def _write_passage(value: Passage) -> rag_pb2.Passage:
    """Return the message of a passage."""
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


def _write_citation(value: Citation) -> rag_pb2.Citation:
    """Return the message of a citation."""
    return rag_pb2.Citation(
        start=value.start,
        end=value.end,
        document=value.document,
        document_version=value.version,
        chunk=value.chunk,
        source_start=value.source_start,
        source_end=value.source_end,
        quote=value.quote,
        supported=value.supported,
    )


def _write_unsupported(value: Unsupported) -> rag_pb2.TextSpan:
    """Return the message of an unsupported sentence."""
    return rag_pb2.TextSpan(
        start=value.start,
        end=value.end,
        reason=_UNSUPPORTED[value.reason],
        detail=value.detail,
    )


def _write_timings(value: Timings) -> rag_pb2.RagTimings:
    """Return the message of timings."""
    return rag_pb2.RagTimings(
        cache=value.cache,
        embed=value.embed,
        search=value.search,
        arrange=value.rank,
        rerank=value.rerank,
        generate=value.generate,
        total=value.total,
    )


def _write_refusal(value: RefusalDecision) -> rag_pb2.Refusal:
    """Return the message of a refusal."""
    reason = rag_pb2.REFUSAL_REASON_NO_RELEVANT_CONTEXT
    if not value.readable:
        reason = rag_pb2.REFUSAL_REASON_UNREADABLE
    elif not value.supported:
        reason = rag_pb2.REFUSAL_REASON_UNSUPPORTED
    return rag_pb2.Refusal(
        reason=reason,
        best_score=value.best_score,
        min_score=value.min_score,
        relevance=value.relevance,
        min_relevance=value.min_relevance,
    )


def write_retrieval(
    passages: list[Passage], decision: RefusalDecision, spent: Timings
) -> rag_pb2.RetrieveResponse:
    """Return the response with the passages that were retrieved."""
    return rag_pb2.RetrieveResponse(
        passages=map(_write_passage, passages),
        timings=_write_timings(spent),
        refusal=_write_refusal(decision) if decision.refused else None,
    )


def write_events(event: Event) -> list[rag_pb2.StreamAskResponse]:
    """Return the messages of an event; for an answer its citations and its usage come first."""
    message = rag_pb2.StreamAskResponse
    if isinstance(event, str):
        return [message(delta=event)]
    if isinstance(event, Retrieved):
        return [message(retrieval=rag_pb2.Retrieval(passages=map(_write_passage, event.passages)))]
    final = write_answer(event)
    citations = [message(citation=one) for one in final.citations]
    usage = [message(usage=final.usage)] if event.usage else []
    return [*citations, *usage, message(final=final)]


def read_labelled_questions(request: rag_pb2.CalibrateRefusalsRequest) -> list[LabelledQuestion]:
    """Return the labelled questions of a request."""
    return [LabelledQuestion(one.question, one.answerable) for one in request.questions]


def write_calibration_report(value: CalibrationReport) -> rag_pb2.CalibrateRefusalsResponse:
    """Return the message of a calibration report."""
    return rag_pb2.CalibrateRefusalsResponse(
        min_score=value.calibration.min_score,
        model_digest=value.model_digest,
        answerable_refused=value.answerable_refused,
        unanswerable_refused=value.unanswerable_refused,
        measured=value.questions,
        min_relevance=value.calibration.min_relevance if value.calibration.weights else None,
    )


def write_answer(value: Answer) -> rag_pb2.AskResponse:
    """Return the message of an answer or a refusal."""
    message = rag_pb2.AskResponse(
        answer=value.text,
        citations=map(_write_citation, value.citations),
        timings=_write_timings(value.timings),
        passages=map(_write_passage, value.passages),
        decision=messages.decision_to_message(value.decision),
        model=value.model,
        usage=cache_pb2.Usage(**value.usage),
        unsupported=map(_write_unsupported, value.unsupported),
        dropped_citations=value.dropped,
        dropped_sentences=value.withheld,
    )
    if value.refusal:
        message.refusal.CopyFrom(_write_refusal(value.refusal))
    else:
        message.writer = rag_pb2.WRITER_LANGUAGE_MODEL if value.model else rag_pb2.WRITER_EXTRACTIVE
    return message
