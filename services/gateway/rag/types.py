"""Questions as callers ask them, and what is refused of them."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from services.errors import InvalidArgument
from services.gateway.cache.types import Bound, Scope
from services.gateway.rag.ingest.segmentation import Span
from services.gateway.rag.ingest.types import check_collection
from services.gateway.rag.retrieval import Passage

DEFAULT_PASSAGES = 8
PASSAGE_LIMIT = 1000
COLLECTION_LIMIT = 8


@dataclass(frozen=True)
class Question:
    """A question to collections of documents.

    ``filter`` is a Filter message as the caller sent it, and ``filter_key`` its bytes.
    """

    text: str
    collections: list[str]
    limit: int = DEFAULT_PASSAGES
    filter: Any = None
    filter_key: bytes = b""
    scope: Scope = field(default_factory=Scope)
    history: list[tuple[str, str]] = field(default_factory=list)
    model: str = ""
    no_cache: bool = False
    no_store: bool = False
    bound: Bound = field(default_factory=Bound)
    diversity: float = 0.0
    by_words: bool = True
    rerank: bool = False
    prompt_tokens: int = 0

    def check(self) -> None:
        """Raise InvalidArgument for what can never be answered."""
        if not self.text.strip():
            raise InvalidArgument("EMPTY_QUESTION", "The question is empty.", field="question")
        if not 0 < self.limit <= PASSAGE_LIMIT:
            raise InvalidArgument("BAD_LIMIT", f"limit is 1 to {PASSAGE_LIMIT}.", field="limit")
        if not 0 <= self.diversity <= 1:
            raise InvalidArgument("BAD_DIVERSITY", "diversity is 0 to 1.", field="diversity")
        if len(self.collections) > COLLECTION_LIMIT:
            raise InvalidArgument(
                "TOO_MANY_COLLECTIONS",
                f"At most {COLLECTION_LIMIT} collections at once.",
                field="additional_collections",
            )
        if self.prompt_tokens < 0:
            raise InvalidArgument(
                "BAD_BUDGET", "max_prompt_tokens is 0 or more.", field="max_prompt_tokens"
            )
        if any(role not in ("user", "assistant") for role, _ in self.history):
            raise InvalidArgument(
                "BAD_ROLE", "A role of the history is user or assistant.", field="history"
            )
        for name in self.collections:
            check_collection(name)


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


@dataclass
class Timings:
    """Seconds by stage."""

    cache: float = 0.0
    embed: float = 0.0
    search: float = 0.0
    arrange: float = 0.0
    rerank: float = 0.0
    generate: float = 0.0
    total: float = 0.0
    begun: float = field(default_factory=time.perf_counter)

    def ended(self) -> "Timings":
        """Return these at the end of the call."""
        return replace(self, total=time.perf_counter() - self.begun)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of what runs inside to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.perf_counter() - started)
