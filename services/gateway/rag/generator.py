"""Writes answers with a language model."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from services.errors import FailedPrecondition, Failure, InvalidArgument, Overloaded
from services.gateway.llm import types
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.errors import (
    MISCONFIGURED,
    REFUSED,
    UpstreamError,
    unavailable,
    upstream_error,
)
from services.gateway.llm.types import Json
from services.gateway.rag import prompts
from services.gateway.rag.grounding.service import GroundedAnswer, Grounding
from services.gateway.rag.marks import MarkFilter
from services.gateway.rag.types import Draft, Passage, WriteRequest

# What a busy server that gives no hint is given to recover.
_RETRY_SECONDS = 5.0


@dataclass
class _Reply:
    """The server's metadata for an answer."""

    model: str
    usage: dict[str, int] = field(default_factory=dict)
    finish_reason: str = ""

    def update(self, message: Json) -> None:
        """Read the metadata of a completion or of a chunk."""
        self.model = message.get("model") or self.model
        self.usage = types.token_usage(message) or self.usage
        self.finish_reason = types.finish_reason(message) or self.finish_reason


class LanguageModelWriter:
    """Writes answers with a language model, from prompts of at most ``max_prompt_tokens``."""

    def __init__(
        self, client: LanguageModelClient, grounding: Grounding, *, max_prompt_tokens: int
    ) -> None:
        self._client = client
        self._grounding = grounding
        self._max_prompt_tokens = max_prompt_tokens
        self._estimator = prompts.TokenEstimator()

    def author(self, model: str) -> str:
        """Return a name for the model, the prompt's wording and its size."""
        resolved = self._client.model(model)
        return f"model:{resolved}:{self._max_prompt_tokens}:{prompts.template_digest()}"

    async def write(
        self, request: WriteRequest, passages: Sequence[Passage]
    ) -> AsyncIterator[str | Draft]:
        """Yield the model's answer in pieces, without marks that name no passage, then the Draft.

        Sentences that the passages do not support are in the Draft, or dropped by choice.

        Raises:
            Unavailable: the server does not answer, or its answer is truncated.
            Overloaded: the server is overloaded.
            InvalidArgument: the server refuses the request.
            FailedPrecondition: the server refuses the key or the model.
        """
        max_tokens = request.max_prompt_tokens or self._max_prompt_tokens
        prompt = prompts.build(
            request.question, request.history, passages, self._estimator, max_tokens
        )
        marks = MarkFilter(len(prompt.passages))
        grounded = self._grounding.begin(prompt.passages, request.grounding)
        reply = _Reply(self._client.model(request.model))
        text = ""
        try:
            async for piece in self._generate(prompt, reply, streamed=request.streamed):
                if passed := await grounded.feed(marks.feed(piece)):
                    text += passed
                    yield passed
        except Failure as failure:
            if upstream := upstream_error(failure):
                raise _refusal(upstream, failure.retry_after) from failure
            raise
        if rest := await grounded.feed(marks.flush()) + await grounded.flush():
            text += rest
            yield rest
        self._estimator.observe(prompt.size, reply.usage.get("prompt_tokens", 0))
        yield await _draft(text, prompt.passages, reply, marks.dropped, grounded)

    async def _generate(
        self, prompt: prompts.Prompt, reply: _Reply, *, streamed: bool
    ) -> AsyncIterator[str]:
        """Yield the model's text as it arrives; ``reply`` collects the server's metadata."""
        body: Json = {"model": reply.model, "messages": prompt.messages, "temperature": 0}
        if not streamed:
            completion = await self._client.complete(body)
            reply.update(completion)
            yield types.completion_text(completion)
            return
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        async for chunk in self._client.stream(body):
            reply.update(chunk)
            yield types.delta_text(chunk)


async def _draft(
    text: str, passages: list[Passage], reply: _Reply, dropped: int, grounded: GroundedAnswer
) -> Draft:
    citations, unsupported = await grounded.cite(text)
    return Draft(
        text,
        citations,
        passages,
        reply.model,
        reply.usage,
        unsupported,
        dropped,
        grounded.withheld,
        complete=bool(text.strip()) and reply.finish_reason in ("stop", ""),
    )


def _refusal(upstream: UpstreamError, retry_after: float | None) -> Failure:
    """Return the server's refusal as a failure with a reason that RagService documents."""
    if upstream.status == 429:  # noqa: PLR2004 - Too Many Requests
        return Overloaded(
            "LANGUAGE_MODEL_BUSY",
            "The language model server is overloaded. Retry after the hint.",
            retry_after=_RETRY_SECONDS if retry_after is None else retry_after,
        )
    if upstream.status == 400:  # noqa: PLR2004 - Bad Request
        return InvalidArgument(REFUSED, "The language model server refused the request.")
    if upstream.status < 500:  # noqa: PLR2004 - the first server error
        return FailedPrecondition(
            MISCONFIGURED,
            "The language model server refused the key or the model. Check MEMETWIN_LLM_*.",
            status=upstream.status,
        )
    return unavailable()
