"""What became of cached answers: labels on their way into the budgets of all replicas.

Each tenant has a budget. A label is appended to the store, and every replica takes in what the
others have appended: at once after a label of its own, and off the path, at most once a second,
when it is asked for a decision.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from prometheus_client import Counter, Gauge

from services import deadlines
from services.errors import Failure
from services.gateway import auth
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import Hit, Vectors
from services.gateway.cache.error_budget.candidates import Candidate, answer_name, look, same_answer
from services.gateway.cache.error_budget.policy import FLOOR, MEMORY, Budget
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.statistics import wilson
from services.gateway.cache.store import CacheStore
from services.gateway.cache.types import (
    Bound,
    Decision,
    Entry,
    Observation,
    Request,
    Sighting,
    Trial,
    entry_of,
    too_old,
    unpacked,
)
from services.gateway.cache.verifier.features import Text
from services.gateway.cache.verifier.model import Side, Verifier

T = TypeVar("T")

FRESH = 1.0  # seconds for which other replicas' labels may be missing
BURST = 0.05  # seconds between fits while many misses are answered
OPEN = 4096  # trials without a label that are kept in mind
TENANTS = 256  # budgets that are held ready
LABELS = Counter(
    "memetwin_cache_labels_total", "Cached answers found right or wrong.", ["served", "right"]
)
WRONG = Gauge(
    "memetwin_cache_wrong_ratio",
    "Share of wrong ones among served answers that were looked at, and its 95 % interval.",
    ["tenant", "end"],
)


@dataclass(frozen=True)
class Question:
    """A request, its words and vector, its key, and how likely an answer must be at the least."""

    request: Request
    side: Side
    key: str
    least: float = 0.0


@dataclass
class _Account:
    """A tenant's budget, and the store's last label that is in it."""

    budget: Budget = field(default_factory=Budget)
    last: str = ""
    checked: float = -FRESH
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ErrorBudgetController:
    """Decides by budgets, and feeds them."""

    def __init__(
        self, scopes: Scopes, store: CacheStore, embedder: EmbedderClient, verifier: Verifier
    ) -> None:
        self._scopes = scopes
        self._store = store
        self._embedder = embedder
        self._verifier = verifier
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._missed: OrderedDict[str, Trial] = OrderedDict()
        self._served: OrderedDict[str, Trial] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    async def choose(
        self, question: Question, hits: Sequence[Hit], bound: Bound
    ) -> Decision | None:
        """Decide on what is near a question, from near to far; None if nothing is."""
        near = await self._near(hits, bound)
        if not near:
            return None
        decision = await self._decide(question, near, bound.max_error_rate or 0.0)
        self.note(question.key, decision)
        return decision

    async def _near(self, hits: Sequence[Hit], bound: Bound) -> list[tuple[Entry, float]]:
        """Read the entries that were hit, and are not too old, with their cosines."""
        cosines = {hit.id: hit.similarity for hit in hits}
        entries = map(entry_of, await self._store.named([hit.id for hit in hits]))
        return [(entry, cosines[entry.id]) for entry in entries if not too_old(entry, bound)]

    async def _decide(
        self, question: Question, near: Sequence[tuple[Entry, float]], max_error_rate: float
    ) -> Decision:
        tenant = await self._scopes.tenant_partition(question.request.scope.tenant)
        budget = await self.budget(tenant)
        candidates = [_candidate(entry, similarity) for entry, similarity in near]
        found = look(budget, self._verifier, question.side, candidates, question.least)
        if found is None:
            return Decision("miss", None, near[0][1], None, "contradicts")
        place, sighting = found
        entry, similarity = near[place]
        probability = budget.probability(sighting)
        trial = Trial(tenant, entry.id, sighting, probability)
        if probability >= budget.bound(max_error_rate):
            return Decision("semantic", entry, similarity, probability, trial=trial)
        why = "explores" if probability >= FLOOR else "not_similar"
        return Decision("miss", None, similarity, probability, why, trial=trial)

    def note(self, asked: str, decision: Decision) -> None:
        """Keep a decision in mind until its outcome is known; ``asked`` is the question's key."""
        trial = decision.trial
        if decision.entry:
            self._served.pop(decision.entry.id, None)  # what was served last is what is judged
            if trial:
                _keep(self._served, decision.entry.id, trial, OPEN)
        elif trial:
            _keep(self._missed, asked, trial, OPEN)

    async def look_again(self, question: Question, hits: Sequence[Hit], served: Entry) -> None:
        """Keep in mind what was decided on an entry that another replica may have served."""
        near = await self._near(hits, Bound())
        if near:
            decision = await self._decide(question, near, FLOOR)
            if decision.trial and decision.trial.entry == served.id:
                self.note("", replace(decision, entry=served))

    def answered(self, asked: str, response: str) -> None:
        """Take in the answer to a question that had missed, off the path."""
        trial = self._missed.pop(asked, None)
        if trial:
            self._later(self._compare(trial, response, served=False, weight=1.0))

    async def asked_again(self, trial: Trial, response: str, weight: float) -> None:
        """Take in what the model says to a question that was served from the cache.

        It stands for ``weight`` hits, those that were not asked again among them.
        """
        await self._compare(trial, response, served=True, weight=weight)

    async def judged(self, entry: str, *, correct: bool) -> None:
        """Take in a caller's word on the entry it was served."""
        trial = self._served.pop(entry, None)
        if trial:
            label = Observation(trial.sighting, correct, True, 1.0, trial.probability)
            await self._observe(trial.tenant, label)

    async def budget(self, tenant: str) -> Budget:
        """Return a tenant's budget; the first call reads it, later ones see to it off the path."""
        account = self._account(tenant)
        if not account.last:
            await self._refresh(account, tenant)
        elif time.monotonic() - account.checked > FRESH:
            account.checked = time.monotonic()
            self._later(self._refresh(account, tenant))
        return account.budget

    async def counters(self, named: str) -> dict[str, float]:
        """Return how many of a tenant's served answers were looked at, and found wrong."""
        tenant = await self._scopes.tenant_partition(named)
        account = self._account(tenant)
        await self._refresh(account, tenant)
        wrong, seen = account.budget.wrong()
        return {"found_wrong": wrong, "looked_at": seen}

    async def close(self) -> None:
        """Let go of what is under way; labels are worth no wait."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compare(self, trial: Trial, response: str, *, served: bool, weight: float) -> None:
        """Label a trial by the answer that the model gave."""
        record = await self._store.entry(trial.entry)
        if record is None:
            return
        kept, vectors = str(record["response"]), None
        if not same_answer(kept, response):
            vectors = (await self._embedder.embed_documents([kept, response], bulk=True)).rows
        right = same_answer(kept, response, vectors)
        label = Observation(
            trial.sighting, right, served, weight, trial.probability, answer_name(response)
        )
        await self._observe(trial.tenant, label)

    async def _observe(self, tenant: str, label: Observation) -> None:
        LABELS.labels(str(label.served).lower(), str(label.right).lower()).inc()
        place = await self._store.observe(tenant, asdict(label), MEMORY)
        account = self._account(tenant)
        if label.served or time.monotonic() - account.checked > BURST:
            await self._refresh(account, tenant, place)
        if auth.current_key_name():
            for end, value in zip(
                ("value", "low", "high"), wilson(*account.budget.wrong()), strict=True
            ):
                WRONG.labels(auth.current_tenant(""), end).set(value)

    async def _refresh(self, account: _Account, tenant: str, place: str = "") -> None:
        """Take in new labels, unless a label's place has been passed while this waited."""
        async with account.lock:
            if place and _order(place) <= _order(account.last):
                return
            account.checked = time.monotonic()
            records, last = await self._store.observations(tenant, account.last)
            account.budget.add([_label(record) for record in records])
            account.last = last or "0-0"

    def _account(self, tenant: str) -> _Account:
        return _keep(self._accounts, tenant, self._accounts.get(tenant) or _Account(), TENANTS)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(Failure), deadlines.limit(deadlines.DEFAULT_DEADLINE):
        await work


def _keep(held: OrderedDict[str, T], name: str, value: T, most: int) -> T:
    """Hold a value, and let go of the one that was used least lately."""
    held[name] = value
    held.move_to_end(name)
    if len(held) > most:
        held.popitem(last=False)
    return value


def side_of(prompt: str, vectors: Vectors | None) -> Side:
    """Return a prompt as the verifier takes it."""
    if vectors is None:
        return Side(Text(prompt))
    row = vectors.rows[0]
    return Side(Text(prompt), row / max(float(np.linalg.norm(row)), 1e-12), vectors.digest)


def _candidate(entry: Entry, similarity: float) -> Candidate:
    side = Side(Text(entry.prompt), unpacked(entry.vector), entry.digest)
    return Candidate(side, min(1.0, max(-1.0, similarity)), answer_name(entry.response))


def _label(record: dict[str, Any]) -> Observation:
    sighting = Sighting(record["sighting"]["answer"], tuple(record["sighting"]["signs"]))
    return Observation(**{**record, "sighting": sighting})


def _order(place: str) -> tuple[int, ...]:
    return tuple(int(part) for part in place.split("-")) if place else (-1,)
