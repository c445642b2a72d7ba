"""Writes answers from passages: by a language model, or by quoting the best sentences."""

from collections.abc import AsyncIterator, Sequence

from services.errors import FailedPrecondition, Failure, InvalidArgument, Overloaded
from services.gateway.llm import types
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.errors import REFUSED, unavailable, upstream_error
from services.gateway.llm.types import Json
from services.gateway.rag import prompts
from services.gateway.rag.citations import Marks, Reply, cited
from services.gateway.rag.retrieval import Passage
from services.gateway.rag.types import Draft, Task


class LanguageModelWriter:
    """Has a language model write answers."""

    def __init__(self, client: LanguageModelClient, *, prompt_tokens: int) -> None:
        self._client = client
        self._budget = prompt_tokens
        self._meter = prompts.Meter()

    async def write(self, task: Task, passages: Sequence[Passage]) -> AsyncIterator[str | Draft]:
        """Yield what the model answers; marks of passages it was not given are dropped.

        Raises:
            Unavailable: the server does not answer, or its answer is truncated.
            Overloaded: the server is overloaded.
            InvalidArgument: the server refuses the request.
            FailedPrecondition: the server refuses the key or the model.
        """
        budget = task.prompt_tokens or self._budget
        prompt = prompts.build(task.question, task.history, passages, self._meter, budget)
        marks = Marks(len(prompt.passages))
        reply = Reply(self._client.model(task.model))
        said = ""
        try:
            async for piece in self._pieces(prompt, reply, streamed=task.streamed):
                if sound := marks.check(piece):
                    said += sound
                    yield sound
        except Failure as failure:
            raise _reason(failure) from failure
        if rest := marks.rest():
            said += rest
            yield rest
        self._meter.learn(prompt.size, reply.usage.get("prompt_tokens", 0))
        yield cited(said, prompt.passages, reply, marks.dropped)

    async def _pieces(
        self, prompt: prompts.Prompt, reply: Reply, *, streamed: bool
    ) -> AsyncIterator[str]:
        """Yield the model's text as it arrives; ``reply`` records what else the server reports."""
        body: Json = {"model": reply.model, "messages": prompt.messages, "temperature": 0}
        if not streamed:
            completion = await self._client.complete(body)
            reply.take(completion)
            yield types.completion_text(completion)
            return
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        async for chunk in self._client.stream(body):
            reply.take(chunk)
            yield types.delta_text(chunk)


def _reason(failure: Failure) -> Failure:
    """Return a failure of the server with the reason that RagService documents."""
    upstream = upstream_error(failure)
    if upstream is None:
        return failure
    if upstream.status == 429:  # noqa: PLR2004 - Too Many Requests
        return Overloaded(
            "LANGUAGE_MODEL_BUSY",
            "The language model server is overloaded; try again.",
            retry_after=5.0,
        )
    if upstream.status == 400:  # noqa: PLR2004 - Bad Request
        return InvalidArgument(REFUSED, "The language model server refused the request.")
    if upstream.status < 500:  # noqa: PLR2004 - the first server error
        return FailedPrecondition(
            "LANGUAGE_MODEL_MISCONFIGURED",
            "The language model server refused the key or the model; check MEMETWIN_LLM_*.",
            status=upstream.status,
        )
    return unavailable()
