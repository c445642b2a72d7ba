"""What a cache keeps and what it is asked: plain data, and what is refused of it."""

import base64
import functools
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.errors import InvalidArgument
from services.gateway.digests import digest

PROMPT_LIMIT = 32768
RESPONSE_LIMIT = 4 * 2**20
TTL_LIMIT = 2**31
# So many turns of the user's before a prompt are embedded with it, and so many of their characters,
# so that a model that cuts texts sees the prompt.
TURNS, CONTEXT_LIMIT = 2, 400


@dataclass(frozen=True)
class Scope:
    """A hard partition of the cache."""

    tenant: str = ""
    user: str = ""
    namespace: str = ""


@dataclass(frozen=True)
class Context:
    """All that an answer depends on besides the prompt; every part is plain data."""

    model: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    system_prompt: str = ""
    tools: list[str] = field(default_factory=list)
    response_format: str = ""
    history: list[tuple[str, str]] = field(default_factory=list)

    @functools.cached_property
    def parts(self) -> dict[str, str]:
        """A digest of each part by its name."""
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
        """The digest of the whole (sha256, hexadecimal)."""
        return digest(self.parts)


@dataclass(frozen=True)
class Bound:
    """How sure a semantic hit must be: a least cosine, or a largest share of wrong hits.

    Who names a ``max_age`` takes nothing older, and nothing whose time is over; others take what is
    ``stale`` seconds past its end.
    """

    min_similarity: float | None = None
    max_error_rate: float | None = None
    max_age: float | None = None
    stale: float = 0.0


@dataclass(frozen=True)
class Entry:
    """A prompt and its answer; ``detail`` is plain data that belongs to the response.

    ``vector`` is the prompt's packed unit vector by the model of ``digest``; making the response
    took ``seconds``.
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

    @property
    def is_stale(self) -> bool:
        """Whether its time is over."""
        return 0 < self.ttl < self.age

    @property
    def age(self) -> float:
        """Seconds since it was created."""
        return max(0.0, time.time() - self.created_at)


@dataclass(frozen=True)
class Sighting:
    """What was seen of a question's nearest cached answer.

    Attributes:
        answer: names the answer: equal names are equal answers.
        signs: of how likely it is right, as ``look`` makes them.
    """

    answer: str
    signs: tuple[float, ...]


@dataclass(frozen=True)
class Trial:
    """A decision under a tenant's budget whose outcome will teach it: on which entry, and why."""

    tenant: str
    entry: str
    sighting: Sighting
    probability: float


@dataclass(frozen=True)
class Decision:
    """What a lookup came to: ``kind`` is ``miss``, ``exact`` or ``semantic``."""

    kind: str
    entry: Entry | None = None
    similarity: float = 0.0
    probability: float | None = None
    miss_reason: str = ""
    differing: list[str] = field(default_factory=list)
    trial: Trial | None = None


@dataclass(frozen=True)
class Request:
    """A prompt in its scope and context."""

    scope: Scope
    context: Context
    prompt: str

    @property
    def in_context(self) -> str:
        """The prompt after what the user said before it: "And in Paris?" alone means nothing."""
        said = [text for role, text in self.context.history if role.startswith("user")]
        before = "\n".join(said[-TURNS:])[-CONTEXT_LIMIT:]
        return f"{before}\n{self.prompt}" if before else self.prompt

    def check(self) -> None:
        """Raise InvalidArgument for a prompt that is empty or too long."""
        if not self.prompt.strip():
            raise InvalidArgument("EMPTY_PROMPT", "The prompt is empty.", field="prompt")
        if len(self.prompt.encode()) > PROMPT_LIMIT:
            raise InvalidArgument(
                "PROMPT_TOO_LONG",
                f"The prompt is longer than {PROMPT_LIMIT} bytes.",
                field="prompt",
                limit=PROMPT_LIMIT,
            )


@dataclass(frozen=True)
class Purge:
    """Which entries to delete: those that meet all that is set; ``force`` does it."""

    cites: frozenset[str] = frozenset()
    older_than: float | None = None
    fingerprint: str = ""
    prompt_contains: str = ""
    force: bool = False
    everything: bool = False

    def check(self) -> None:
        """Raise InvalidArgument if everything would be deleted, and that was not said."""
        narrow = self.cites or self.fingerprint or self.prompt_contains
        if self.force and not self.everything and not narrow and self.older_than is None:
            raise InvalidArgument(
                "EMPTY_FILTER", "An empty filter deletes everything: say all.", field="filter"
            )

    def meets(self, entry: Entry) -> bool:
        """Say whether an entry is to go."""
        return (
            (not self.cites or not self.cites.isdisjoint(entry.cites))
            and (self.older_than is None or entry.age > self.older_than)
            and self.fingerprint in ("", entry.fingerprint)
            and self.prompt_contains.lower() in entry.prompt.lower()
        )

    def told(self) -> dict[str, Any]:
        """Return what was asked for as plain data."""
        return {
            "cites": sorted(self.cites),
            "older_than": self.older_than,
            "context_fingerprint": self.fingerprint,
            "prompt_contains": self.prompt_contains,
        }


@dataclass(frozen=True)
class Purged:
    """A purge that was made: when, by the key of that name, what it was to delete, how many it did.

    ``time`` is in seconds since 1970; ``key`` is empty where no keys are asked for.
    """

    time: float
    key: str
    filter: dict[str, Any]
    count: int


def entry_of(record: dict[str, Any]) -> Entry:
    """Read an entry as it is kept."""
    return Entry(**{**record, "scope": Scope(**record["scope"])})


def check_answer(request: Request, response: str, ttl: float) -> None:
    """Raise InvalidArgument for what cannot be kept."""
    request.check()
    if not response:
        raise InvalidArgument("EMPTY_RESPONSE", "The response is empty.", field="response")
    if len(response.encode()) > RESPONSE_LIMIT:
        raise InvalidArgument(
            "RESPONSE_TOO_LONG",
            f"The response is longer than {RESPONSE_LIMIT} bytes.",
            field="response",
            limit=RESPONSE_LIMIT,
        )
    if not 0 <= ttl < TTL_LIMIT:
        raise InvalidArgument("BAD_TTL", "ttl is a number of seconds, 0 or more.", field="ttl")


def too_old(entry: Entry, bound: Bound) -> bool:
    """Say whether an entry is older than the caller wants."""
    if bound.max_age is not None:
        return entry.is_stale or entry.age > bound.max_age
    return 0 < entry.ttl < entry.age - bound.stale


def packed(vector: NDArray[np.float32]) -> str:
    """Return the unit vector of a vector, [dimensions], as base64 of float16."""
    unit = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return base64.b64encode(unit.astype("<f2").tobytes()).decode()


def unpacked(text: str) -> NDArray[np.float32] | None:
    """Read a packed vector, float32 [dimensions]; None if there is none."""
    return np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32) if text else None


@dataclass(frozen=True)
class Observation:
    """A sighting whose outcome is known.

    Attributes:
        right: whether the cached answer was right.
        served: whether it had been served; else the model was asked at once.
        weight: how many sightings of its kind it stands for, at least 1.
        probability: that it is right, as estimated before.
        found: names the answer that was found instead, if one was.
    """

    sighting: Sighting
    right: bool
    served: bool
    weight: float
    probability: float
    found: str = ""
