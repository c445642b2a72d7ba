"""Writes answers from passages: by a language model, or by quoting the best sentences."""

import functools
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import openai

from services import deadlines
from services.errors import FailedPrecondition, Failure, InvalidArgument, Overloaded, Unavailable
from services.gateway.backends.types import Embedder
from services.gateway.rag import prompts
from services.gateway.rag.ingest.segmentation import Span, sentences
from services.gateway.rag.retrieval import Passage

QUOTES = 3
CANDIDATES = 48
_MARK = re.compile(r"\[(\d{1,4})\]")
_UNFINISHED = re.compile(r"\[\d{0,4}\Z")
_LEADING_MARKS = re.compile(r"(?:\[\d{1,4}\][ ,;]*)+[.!?]?\s*")


@dataclass(frozen=True)
class Citation:
    """Which words of an answer rest on which words of a document; all places are code points."""

    start: int
    end: int
    document: str
    version: str
    chunk: str
    source_start: int
    source_end: int
    quote: str


@dataclass(frozen=True)
class Task:
    """A question to write an answer to; an empty ``model`` means the writer's own choice.

    ``prompt_tokens`` bounds what a model is sent; 0 leaves that to the writer.
    """

    question: str
    history: Sequence[tuple[str, str]] = ()
    model: str = ""
    prompt_tokens: int = 0
    streamed: bool = False


@dataclass(frozen=True)
class Draft:
    """What a writer wrote; ``model`` is empty if no language model did.

    Attributes:
        passages: those it was given, in the order of their numbers.
        unsupported: sentences that cite nothing.
        dropped: how often it cited what it was not given.
        complete: it came to its own end, and said something.
    """

    text: str
    citations: list[Citation]
    passages: list[Passage]
    model: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    unsupported: list[Span] = field(default_factory=list)
    dropped: int = 0
    complete: bool = True


class Writer(Protocol):
    """Writes an answer to a question from passages, best first."""

    def write(self, task: Task, passages: Sequence[Passage]) -> AsyncIterator[str | Draft]:
        """Yield the answer piece by piece, then the whole with its citations."""
        ...


class Extractive:
    """Quotes the sentences nearest to the question, and says that it does: it never invents."""

    OPENING = "No language model is set; these sentences answer best:"

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def write(self, task: Task, passages: Sequence[Passage]) -> AsyncIterator[str | Draft]:
        """Yield the best sentences in the order of their passages, each cited word for word."""
        candidates = [(passage, span) for passage in passages for span in sentences(passage.text)][
            :CANDIDATES
        ]
        texts = [f"{passage.title}: {span.of(passage.text)}" for passage, span in candidates]
        asked = await self._embedder.questions([task.question])
        rows = (await self._embedder.passages(texts)).rows
        scores = rows @ asked.rows[0]
        ranked = sorted(range(len(candidates)), key=lambda number: -float(scores[number]))
        best = [number for number in ranked if scores[number] >= 0.6 * scores[ranked[0]]][:QUOTES]
        draft = self._quote([candidates[number] for number in sorted(best)], passages)
        yield draft.text
        yield draft

    def _quote(self, chosen: Sequence[tuple[Passage, Span]], passages: Sequence[Passage]) -> Draft:
        text, citations = self.OPENING, []
        for passage, span in chosen:
            quote = span.of(passage.text)
            start = len(text) + 2
            text += f" “{quote}”"
            citations.append(_cite(passage, span, start, start + len(quote)))
        return Draft(text, citations, list(passages))


class LanguageModel:
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
        reply = _Reply(task.model or self._model)
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
        yield _cited(said, prompt.passages, reply, marks.dropped)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _pieces(
        self, prompt: prompts.Prompt, reply: "_Reply", *, streamed: bool
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


@dataclass
class _Reply:
    """What a model says besides its words."""

    model: str
    usage: dict[str, int] = field(default_factory=dict)
    finished: str = ""

    def take(self, message: Any) -> None:
        self.model = message.model or self.model
        if usage := message.usage:
            self.usage = {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
            }
        for choice in message.choices[:1]:
            self.finished = choice.finish_reason or self.finished


class Marks:
    """Drops marks of passages that were not given, from words that come in pieces."""

    def __init__(self, given: int) -> None:
        self._given = given
        self._held = ""
        self.dropped = 0

    def check(self, piece: str) -> str:
        """Return what can be said by now; what may become a mark is held back."""
        text = self._held + piece
        held = _UNFINISHED.search(text)
        end = held.start() if held else len(text)
        self._held = text[end:]
        return _MARK.sub(self._keep, text[:end])

    def rest(self) -> str:
        """Return what was held back at the end."""
        text, self._held = self._held, ""
        return text

    def _keep(self, mark: re.Match[str]) -> str:
        if 1 <= int(mark[1]) <= self._given:
            return mark[0]
        self.dropped += 1
        return ""


def _cited(text: str, passages: list[Passage], reply: _Reply, dropped: int) -> Draft:
    """Cite a sentence for each of its marks; one without is told apart."""
    citations, unsupported = [], []
    for span in _statements(text):
        found = list(_MARK.finditer(text, span.start, span.end))
        for mark in found:
            passage = passages[int(mark[1]) - 1]
            whole = Span(0, len(passage.text))
            citations.append(_cite(passage, whole, span.start, span.end))
        if not found:
            unsupported.append(span)
    complete = bool(text.strip()) and reply.finished in ("stop", "")
    return Draft(
        text, citations, passages, reply.model, reply.usage, unsupported, dropped, complete
    )


def _statements(text: str) -> list[Span]:
    """Return the sentences of an answer; marks after a full stop belong to what is before it."""
    spans: list[Span] = []
    for span in sentences(text):
        start = span.start
        after = _LEADING_MARKS.match(text, span.start, span.end)
        if after and spans:
            spans[-1] = Span(spans[-1].start, start + len(after[0].rstrip()))
            start = after.end()
        if start < span.end:
            spans.append(Span(start, span.end))
    return spans


def _cite(passage: Passage, span: Span, start: int, end: int) -> Citation:
    return Citation(
        start=start,
        end=end,
        document=passage.document,
        version=passage.version,
        chunk=passage.chunk,
        source_start=passage.start + span.start,
        source_end=passage.start + span.end,
        quote=span.of(passage.text),
    )


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
