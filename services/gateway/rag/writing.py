"""What a writer needs for an answer, and the answer that its draft amounts to."""

from collections.abc import Sequence
from dataclasses import replace

from services.gateway.cache.types import Decision
from services.gateway.rag.retrieval import QuestionVectors
from services.gateway.rag.timings import Timings
from services.gateway.rag.types import (
    Answer,
    Draft,
    Passage,
    Question,
    RefusalDecision,
    Writer,
    WriteRequest,
)


def write_request(question: Question, vectors: QuestionVectors, *, streamed: bool) -> WriteRequest:
    """Return the request to a writer."""
    return WriteRequest(
        question.text,
        vectors.search.rows[0],
        question.history,
        question.model,
        question.max_prompt_tokens,
        streamed,
        question.grounding,
    )


async def write_whole(writer: Writer, request: WriteRequest, passages: Sequence[Passage]) -> Draft:
    """Return a draft without its pieces."""
    async for piece in writer.write(request, passages):
        if isinstance(piece, Draft):
            return piece
    raise AssertionError("the last item of a writer is a Draft")


def written_answer(
    draft: Draft, decision: Decision, decided: RefusalDecision, timings: Timings
) -> Answer:
    """Return the answer of a draft, or a refusal if all of its sentences were dropped."""
    refusal = None
    if draft.withheld and not draft.text.strip():
        refusal = replace(decided, refused=True, supported=False)
    return Answer(
        draft.text,
        draft.citations,
        draft.passages,
        decision,
        timings,
        model=draft.model,
        usage=draft.usage,
        unsupported=draft.unsupported,
        dropped=draft.dropped,
        withheld=draft.withheld,
        refusal=refusal,
    )
