"""Writes answers from passages: by a language model, or by quoting the best sentences."""

import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import openai

from services import deadlines
from services.errors import FailedPrecondition, Failure, InvalidArgument, Overloaded, Unavailable
from services.gateway.rag import prompts
from services.gateway.rag.citations import Marks, Reply, cited
from services.gateway.rag.retrieval import Passage
from services.gateway.rag.types import Draft, Task


class LanguageModelWriter:
    """Asks an OpenAI-compatible server."""

    def __init__(self, base_url: str, model: str, api_key: str, *, prompt_tokens: int) -> None:
        self._model = model
        self._budget = prompt_tokens
        self._meter = prompts.Meter()
        self._client = openai.AsyncOpenAI(
            base_url=base_url, api_key=api_key or "none", max_retries=0
        )

    async def write(self, task: Task, passages: Sequence[Passage]) -> AsyncIterator[str | Draft]:
        """Yield what the model answers; marks of passages it was not given are dropped.

        Raises:
            Unavailable: the server does not answer.
            Overloaded: it refuses for load.
            FailedPrecondition: it refuses the key or the model.
        """
        budget = task.prompt_tokens or self._budget
        prompt = prompts.build(task.question, task.history, passages, self._meter, budget)
        marks = Marks(len(prompt.passages))
        reply = Reply(task.model or self._model)
        said = ""
        try:
            async for piece in self._pieces(prompt, reply, streamed=task.streamed):
                if sound := marks.check(piece):
                    said += sound
                    yield sound
        except openai.APIError as error:
            raise _failure(error) from error
        if rest := marks.rest():
            said += rest
            yield rest
        self._meter.learn(prompt.size, reply.usage.get("prompt_tokens", 0))
        yield cited(said, prompt.passages, reply, marks.dropped)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _pieces(
        self, prompt: prompts.Prompt, reply: "Reply", *, streamed: bool
    ) -> AsyncIterator[str]:
        """Yield the model's words as they come; ``reply`` takes in what else it says."""
        create: Any = functools.partial(
            self._client.chat.completions.create,
            model=reply.model,
            messages=prompt.messages,
            temperature=0,
            timeout=deadlines.time_left() or deadlines.LONG_DEADLINE,
        )
        if not streamed:
            whole = await create()
            reply.take(whole)
            for choice in whole.choices[:1]:
                yield choice.message.content or ""
            return
        options = {"include_usage": True}
        async with await create(stream=True, stream_options=options) as chunks:
            async for chunk in chunks:
                reply.take(chunk)
                for choice in chunk.choices[:1]:
                    yield choice.delta.content or ""


def _failure(error: openai.APIError) -> Failure:
    if isinstance(error, openai.RateLimitError):
        return Overloaded(
            "LANGUAGE_MODEL_BUSY", "The language model refuses for load.", retry_after=5.0
        )
    if isinstance(error, openai.BadRequestError):
        return InvalidArgument("LANGUAGE_MODEL_REFUSED", "The language model refused the request.")
    if isinstance(error, openai.APIStatusError) and error.status_code < 500:  # noqa: PLR2004
        return FailedPrecondition(
            "LANGUAGE_MODEL_MISCONFIGURED",
            "The language model server refuses the key or the model; see MEMETWIN_LLM_*.",
            status=error.status_code,
        )
    return Unavailable(
        "LANGUAGE_MODEL_UNAVAILABLE", "The language model does not answer.", retry_after=2.0
    )
