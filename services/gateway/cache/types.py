"""The cache's plain data: scopes, contexts, requests, entries and decisions."""

import functools
import time
from dataclasses import dataclass, field, fields
from typing import Any

from services.errors import InvalidArgument
from services.gateway.cache.context_text import text_in_context
from services.gateway.digests import digest

MAX_PROMPT_BYTES = 32768
MAX_RESPONSE_BYTES = 4 * 2**20
MAX_TTL = 2**31
# Keys in an entry's detail, where gateways of earlier versions ignore them: the embedded text, if
# that is not only the prompt; whether a caller sent the vector; and how the model read the prompt.
EMBEDDING_TEXT = "embedding_text"
VECTOR_FROM_CALLER = "vector_from_caller"
READING = "reading"
# The ids of curated entries begin with this, so lookups distinguish them before they read them.
CURATED_ID = "curated-"


@dataclass(frozen=True)
class Scope:
    """A hard partition of the cache. No lookup crosses it."""

    tenant: str = ""
    user: str = ""
    namespace: str = ""


@dataclass(frozen=True)
class Context:
    """Everything that an answer depends on besides the prompt, as plain data.

    ``history`` holds the earlier messages as pairs of role and content.
    """

    model: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    system_prompt: str = ""
    tools: list[str] = field(default_factory=list)
    response_format: str = ""
    history: list[tuple[str, str]] = field(default_factory=list)

    @functools.cached_property
    def parts(self) -> dict[str, str]:
        """The digest of each part, by the part's name."""
        return {
            "model": digest(self.model),
            "parameters": digest(self.parameters),
            "system_prompt": digest(self.system_prompt),
            "tools": digest(self.tools),
            "response_format": digest(self.response_format),
            "history": digest(self.history),
        }

    @functools.cached_property
    def fingerprint(self) -> str:
        """The SHA-256 digest of all parts, in hexadecimal."""
        return digest(self.parts)


@dataclass(frozen=True)
class Bound:
    """The conditions that a cached answer must meet to be served.

    Attributes:
        min_similarity: minimum cosine similarity of a semantic hit.
        max_error_rate: largest expected share of wrong semantic hits. It overrides
            ``min_similarity``.
        max_age: largest age in seconds. If set, no stale entry is served.
        max_stale: seconds past its time to live for which an entry may still be served.
    """

    min_similarity: float | None = None
    max_error_rate: float | None = None
    max_age: float | None = None
    max_stale: float = 0.0


@dataclass(frozen=True)
class Entry:
    """A cached prompt and its response, as Redis stores it (so the field names must not change).

    Gateways of earlier versions read it too, and some fail on fields that they do not know. So new
    data belongs into ``detail``.

    Attributes:
        id: identifies the entry in all scopes.
        parts: digests of the context's parts, by name.
        created_at: seconds since 1970.
        ttl: time to live in seconds; 0 means no limit.
        cites: the sources of the response; a purge may name them.
        usage: tokens that the response used, by kind.
        detail: plain data that belongs to the response, and the constants' keys above.
        vector: the prompt's packed unit vector, see ``vectors.pack``. Empty if only the exact tier
            has the entry.
        digest: digest of the model that made ``vector``.
        seconds: how long it took to generate the response.
    """

    id: str
    prompt: str
    response: str
    scope: Scope
    fingerprint: str
    parts: dict[str, str]
    created_at: float
    ttl: float
    cites: list[str] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    vector: str = ""
    digest: str = ""
    seconds: float = 0.0

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Entry":
        """Read an entry as Redis stores it. Ignore fields that another version has written."""
        known = {name: value for name, value in record.items() if name in _ENTRY_FIELDS}
        return cls(**{**known, "scope": Scope(**record["scope"])})

    @property
    def unread(self) -> list[int] | None:
        """Start and end of each part of the prompt that the model does not read, in code points.

        None if it is not known how the model of ``vector`` reads the prompt.
        """
        reading = self.detail.get(READING) or {}
        return reading["unread"] if reading.get("digest") == self.digest else None

    @property
    def as_nearest(self) -> "Nearest":
        """The entry's id and prompt."""
        return Nearest(self.id, self.prompt)

    @property
    def is_curated(self) -> bool:
        """Whether the owner of the scope has loaded the entry."""
        return self.id.startswith(CURATED_ID)

    @property
    def is_stale(self) -> bool:
        """Whether the entry is past its time to live."""
        return 0 < self.ttl < self.age

    @property
    def age(self) -> float:
        """Seconds since the entry was created."""
        return max(0.0, time.time() - self.created_at)

    def is_too_old(self, bound: Bound) -> bool:
        """Return whether the entry is older than the caller accepts."""
        if bound.max_age is not None:
            return self.is_stale or self.age > bound.max_age
        max_stale = 0.0 if self.is_curated else bound.max_stale  # no caller replaces it
        return 0 < self.ttl < self.age - max_stale


_ENTRY_FIELDS = frozenset(one.name for one in fields(Entry))


@dataclass(frozen=True)
class CandidateFeatures:
    """The features of the best candidate for a question, for an error budget.

    Attributes:
        answer_id: identifies the candidate's answer; equal answers have equal ids.
        values: the features, as ``ErrorBudget.features`` orders them.
    """

    answer_id: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Trial:
    """A decision under an error budget that becomes an observation once its outcome is known.

    Attributes:
        tenant: partition of the tenant whose budget decided.
        entry_id: the candidate entry.
        features: the features of the candidate.
        probability: estimated probability that the entry's answer is correct.
    """

    tenant: str
    entry_id: str
    features: CandidateFeatures
    probability: float


@dataclass(frozen=True)
class Nearest:
    """The entry whose prompt is nearest to that of a lookup: its id and its prompt."""

    id: str
    prompt: str


@dataclass(frozen=True)
class Decision:
    """The outcome of a lookup.

    Attributes:
        kind: ``exact``, ``semantic``, ``miss`` or ``bypass``.
        similarity: cosine similarity of the nearest prompt.
        probability: estimated probability that the answer is correct, if known.
        miss_reason: why the lookup missed; empty for a hit.
        differing_parts: the context parts in which the nearest entry differs.
        trial: what the error budget will learn from this decision.
        bypass_reason: why the cache was not used; empty if it was.
        nearest: the entry that a miss in the semantic tier did not serve, if known.
    """

    kind: str
    entry: Entry | None = None
    similarity: float = 0.0
    probability: float | None = None
    miss_reason: str = ""
    differing_parts: list[str] = field(default_factory=list)
    trial: Trial | None = None
    bypass_reason: str = ""
    nearest: Nearest | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Request:
    """A prompt in its scope and context.

    ``curated_for`` is the language model whose curated entries may answer it, None for no curated
    entries.
    """

    scope: Scope
    context: Context
    prompt: str
    curated_for: str | None = None

    @property
    def embedding_text(self) -> str:
        """The text to embed."""
        return text_in_context(self.prompt, self.context.history)

    def validate(self) -> None:
        """Check the prompt.

        Raises:
            InvalidArgument: the prompt is empty or too long.
        """
        if not self.prompt.strip():
            raise InvalidArgument("EMPTY_PROMPT", "The prompt is empty.", field="prompt")
        if len(self.prompt.encode()) > MAX_PROMPT_BYTES:
            raise InvalidArgument(
                "PROMPT_TOO_LONG",
                f"The prompt is longer than {MAX_PROMPT_BYTES} bytes. Send a shorter prompt.",
                field="prompt",
                limit=MAX_PROMPT_BYTES,
            )


@dataclass(frozen=True)
class NewEntry:
    """A response to store, with the attributes of ``Entry``.

    ``ttl`` is 0 for the cache's default time to live.
    """

    response: str
    ttl: float = 0.0
    cites: list[str] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def validate(self) -> None:
        """Check the response and its time to live.

        Raises:
            InvalidArgument: the response is empty or too long, or ``ttl`` is out of range.
        """
        if not self.response:
            raise InvalidArgument("EMPTY_RESPONSE", "The response is empty.", field="response")
        if len(self.response.encode()) > MAX_RESPONSE_BYTES:
            raise InvalidArgument(
                "RESPONSE_TOO_LONG",
                f"The response is longer than {MAX_RESPONSE_BYTES} bytes. Send a shorter response.",
                field="response",
                limit=MAX_RESPONSE_BYTES,
            )
        if not 0 <= self.ttl < MAX_TTL:
            raise InvalidArgument(
                "BAD_TTL",
                f"ttl is out of range. Send seconds from 0 to less than {MAX_TTL}.",
                field="ttl",
            )
