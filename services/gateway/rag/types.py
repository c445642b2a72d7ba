"""The plain data of retrieval and answering: questions, passages, citations, answers."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from services.errors import InvalidArgument
from services.gateway.cache.context_text import text_in_context
from services.gateway.cache.types import MAX_PROMPT_BYTES, Bound, Decision, Scope
from services.gateway.rag.ingest.segmentation import Span
from services.gateway.rag.ingest.types import DocumentCollection, check_collection
from services.gateway.rag.timings import Timings
from services.gateway.tenants import DEFAULT_TENANT, Tenant

# What happens to sentences of a language model that the passages they cite do not support.
GroundingMode = Literal["mark", "drop", "off"]
# Why a sentence is unsupported. The passages have another number, name or negation, or nothing.
Reason = Literal["no_citation", "number", "name", "negation", "not_found"]
DEFAULT_LIMIT = 8
MAX_LIMIT = 1000
MAX_COLLECTIONS = 8


@dataclass(frozen=True)
class Question:
    """A question to collections of documents.

    Attributes:
        tenant: the owner of the collections; the service adds it.
        limit: maximum number of passages.
        filter: the caller's Filter message.
        filter_key: the serialised ``filter``.
        history: the conversation before the question, as pairs of role and content.
        model: the language model to write the answer; empty means the configured writer.
        bound: limits on the similarity, error rate and age of a cached answer.
        diversity: in [0, 1]; higher values prefer passages that differ from each other.
        hybrid: whether to search by words and by vector, instead of by vector only.
        max_prompt_tokens: limit for the language model's prompt; 0 means the writer's default.
        grounding: what happens to sentences that the passages do not support.
    """

    text: str
    collections: list[str]
    limit: int = DEFAULT_LIMIT
    filter: Any = None
    filter_key: bytes = b""
    scope: Scope = field(default_factory=Scope)
    history: list[tuple[str, str]] = field(default_factory=list)
    model: str = ""
    no_cache: bool = False
    no_store: bool = False
    bound: Bound = field(default_factory=Bound)
    diversity: float = 0.0
    hybrid: bool = True
    rerank: bool = False
    max_prompt_tokens: int = 0
    grounding: GroundingMode = "mark"
    tenant: Tenant = DEFAULT_TENANT

    @property
    def document_collections(self) -> list[DocumentCollection]:
        """The collections to search."""
        return [DocumentCollection(name, self.tenant) for name in self.collections]

    @property
    def text_in_context(self) -> str:
        """The question after the user's last messages."""
        return text_in_context(self.text, self.history)

    def validate(self) -> None:
        """Raise InvalidArgument if a field is out of range."""
        if not self.text.strip():
            raise InvalidArgument("EMPTY_QUESTION", "The question is empty.", field="question")
        if len(self.text.encode()) > MAX_PROMPT_BYTES:
            raise InvalidArgument(
                "QUESTION_TOO_LONG",
                f"The question is longer than {MAX_PROMPT_BYTES} bytes. Send a shorter question.",
                field="question",
                limit=MAX_PROMPT_BYTES,
            )
        if not 0 < self.limit <= MAX_LIMIT:
            raise InvalidArgument("BAD_LIMIT", f"limit must be 1 to {MAX_LIMIT}.", field="limit")
        if not 0 <= self.diversity <= 1:
            raise InvalidArgument(
                "BAD_DIVERSITY", "diversity must be in [0, 1].", field="diversity"
            )
        if len(self.collections) > MAX_COLLECTIONS:
            raise InvalidArgument(
                "TOO_MANY_COLLECTIONS",
                f"A question can search at most {MAX_COLLECTIONS} collections.",
                field="additional_collections",
            )
        if self.max_prompt_tokens < 0:
            raise InvalidArgument(
                "BAD_BUDGET", "max_prompt_tokens must not be negative.", field="max_prompt_tokens"
            )
        if any(role not in ("user", "assistant") for role, _ in self.history):
            raise InvalidArgument(
                "BAD_ROLE", "Roles in the history must be user or assistant.", field="history"
            )
        for name in self.collections:
            check_collection(name)


@dataclass(frozen=True)
class Passage:
    """A part of a document that matches a question: one chunk, or adjacent chunks merged.

    Attributes:
        chunk: id of its best chunk.
        score: passages are ranked by it.
        similarity: cosine similarity to the question.
        start: where it starts in the document's text, in code points.
        end: where it ends, exclusive.
        text_score: how well its words match the question's words; 0 without a word search.
        first: number of its first chunk in the document.
        last: number of its last chunk in the document.
        gap: the white space before the next chunk; None if other text lies between them.
        vector: vector of the best chunk, float32 [dimensions], if it was requested.
    """

    document: str
    chunk: str
    text: str
    score: float
    similarity: float
    title: str
    version: str
    start: int
    end: int
    fields: dict[str, object] = field(default_factory=dict)
    section: str = ""
    page: int = 0
    text_score: float = 0.0
    first: int = 0
    last: int = 0
    gap: str | None = None
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Citation:
    """Code points ``start`` to ``end`` of an answer, and the source text that supports them.

    ``quote`` is code points ``source_start`` to ``source_end`` of the document's stored text.
    ``supported`` says whether the cited passages support the sentence; None if it was not checked.
    """

    start: int
    end: int
    document: str
    version: str
    chunk: str
    source_start: int
    source_end: int
    quote: str
    supported: bool | None = None


@dataclass(frozen=True)
class Unsupported(Span):
    """A sentence of an answer that the passages do not support: why, and the words in question."""

    reason: Reason = "no_citation"
    detail: str = ""


@dataclass(frozen=True)
class RefusalDecision:
    """Whether to refuse a question, by the cosine similarity of its nearest chunk.

    Attributes:
        best_score: cosine similarity of the nearest chunk.
        min_score: minimum cosine similarity for an answer.
        relevance: the probability that the chunks answer the question; None without calibration.
        readable: whether the model reads the question. If not, its similarities mean nothing, and
            it is refused.
        supported: whether the passages support any sentence of the answer. If not, every sentence
            was dropped.
        min_relevance: minimum ``relevance`` for an answer; None if the similarity decides.
    """

    refused: bool
    best_score: float
    min_score: float
    relevance: float | None = None
    readable: bool = True
    supported: bool = True
    min_relevance: float | None = None


@dataclass(frozen=True)
class WriteRequest:
    """A question for a writer. Most fields mean the same as in ``Question``.

    Attributes:
        vector: the unit vector that the passages were found by, float32 [dimensions].
        streamed: whether a caller waits for the pieces of the text.
    """

    question: str
    vector: NDArray[np.float32] = field(compare=False, repr=False)
    history: Sequence[tuple[str, str]] = ()
    model: str = ""
    max_prompt_tokens: int = 0
    streamed: bool = False
    grounding: GroundingMode = "mark"


@dataclass(frozen=True)
class Draft:
    """The finished work of a writer.

    Attributes:
        passages: the passages that the writer used, in the order of their numbers.
        model: the language model that wrote the answer; empty for an extractive answer.
        unsupported: sentences that the passages do not support.
        dropped: number of citations that named no passage and were dropped.
        withheld: number of sentences that were dropped because the passages do not support them.
        complete: whether the writer finished and wrote any text.
    """

    text: str
    citations: list[Citation]
    passages: list[Passage]
    model: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    unsupported: list[Unsupported] = field(default_factory=list)
    dropped: int = 0
    withheld: int = 0
    complete: bool = True


class Writer(Protocol):
    """Writes answers from passages."""

    def author(self, model: str) -> str:
        """Return a name for the writer that uses ``model``.

        It changes with the writer's settings.
        """
        ...

    def write(
        self, request: WriteRequest, passages: Sequence[Passage]
    ) -> AsyncIterator[str | Draft]:
        """Yield the text of the answer in pieces, then the Draft.

        Args:
            request: the question.
            passages: the passages to answer from, best first.
        """
        ...


@dataclass
class Answer:
    """An answer or a refusal. A refusal has an empty ``text``."""

    text: str
    citations: list[Citation]
    passages: list[Passage]
    decision: Decision
    timings: Timings
    refusal: RefusalDecision | None = None
    model: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    unsupported: list[Unsupported] = field(default_factory=list)
    dropped: int = 0
    withheld: int = 0


@dataclass(frozen=True)
class Retrieved:
    """The passages that the answer will be written from."""

    passages: list[Passage]


# The events of a streamed answer: its passages, pieces of its text, and finally the whole answer.
Event = Retrieved | str | Answer
