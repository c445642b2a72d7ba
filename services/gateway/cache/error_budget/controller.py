"""Decides lookups with error budgets, and reports the outcomes to the budgets."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from services import deadlines
from services.errors import Failure
from services.gateway.backends.embedder import EmbedderClient
from services.gateway.backends.types import Hit, Vectors
from services.gateway.cache.error_budget.budgets import TenantBudgets
from services.gateway.cache.error_budget.candidates import (
    Candidate,
    Requirements,
    answer_id,
    choose_candidate,
    same_answer,
)
from services.gateway.cache.error_budget.lru import LruDict
from services.gateway.cache.error_budget.policy import MIN_PROBABILITY
from services.gateway.cache.error_budget.store import ObservationStore
from services.gateway.cache.error_budget.types import Observation
from services.gateway.cache.questions import cached_question
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.store import CacheStore
from services.gateway.cache.types import Bound, Decision, Entry, Request, Trial
from services.gateway.cache.unread import agreeing
from services.gateway.cache.vectors import clamp_cosine
from services.gateway.cache.verifier.model import Question
from services.gateway.cache.verifier.pair_verifier import PairVerifier

MAX_TRIALS = 4096  # trials in memory whose outcome is not known yet
# Below this probability, a miss is not compared with its answer. It would cost an embedding of both
# answers, and such candidates are not served under any bound.
MIN_INTERESTING = 0.05


@dataclass(frozen=True)
class BudgetLookup:
    """A lookup under an error budget.

    Attributes:
        request: the prompt in its scope and context.
        question: the prompt as the verifier's input.
        entry_id: id of the entry that would answer the request exactly.
        min_probability: minimum probability of the verifier, set in a conversation.
        vectors: the prompt's vectors, if known.
    """

    request: Request
    question: Question
    entry_id: str
    min_probability: float = 0.0
    vectors: Vectors | None = None


class ErrorBudgetController:
    """Decides lookups, and turns answers, shadow answers and feedback into observations."""

    def __init__(
        self,
        scopes: Scopes,
        store: CacheStore,
        observations: ObservationStore,
        embedder: EmbedderClient,
        verifier: PairVerifier,
    ) -> None:
        self._scopes = scopes
        self._store = store
        self._embedder = embedder
        self._verifier = verifier
        self._budgets = TenantBudgets(observations, self._run_later)
        self._missed: LruDict[Trial] = LruDict(MAX_TRIALS)  # by the id of the exact entry
        self._served: LruDict[Trial] = LruDict(MAX_TRIALS)  # by the id of the served entry
        self._tasks: set[asyncio.Task[None]] = set()

    async def choose(
        self, lookup: BudgetLookup, hits: Sequence[Hit], bound: Bound
    ) -> Decision | None:
        """Decide on the hits, from near to far; return None if no entry is eligible."""
        near = await self._read_entries(hits, bound)
        if not near:
            return None
        entries = [entry for entry, _ in near]
        agree = await agreeing(lookup.request, lookup.vectors, entries, self._embedder)
        if not agree:
            return _contradiction(near)
        near = [(entry, similarity) for entry, similarity in near if entry in agree]
        decision = await self._decide(lookup, near, bound.max_error_rate or 0.0)
        if decision.entry and decision.entry.id == lookup.entry_id:
            # The entry was stored after the exact lookup. An equal prompt teaches nothing, so no
            # shadow request compares its answer.
            decision = replace(decision, trial=None)
        if decision.trial:
            (await self._budgets.get(decision.trial.tenant)).record_lookup(decision.trial.features)
        self.record_decision(lookup.entry_id, decision)
        return decision

    def record_decision(self, entry_id: str, decision: Decision) -> None:
        """Remember a decision until its outcome is known.

        ``entry_id`` is the id of the entry that would answer the request exactly.
        """
        trial = decision.trial
        if decision.entry:
            self._served.pop(decision.entry.id)  # feedback is about what was served last
            if trial:
                self._served.put(decision.entry.id, trial)
        elif trial:
            self._missed.put(entry_id, trial)

    async def restore_trial(self, lookup: BudgetLookup, hits: Sequence[Hit], served: Entry) -> None:
        """Learn from an entry that another replica may have served: repeat its decision."""
        near = await self._read_entries(hits, Bound())
        if near:
            decision = await self._decide(lookup, near, MIN_PROBABILITY)
            if decision.trial and decision.trial.entry_id == served.id:
                self.record_decision("", replace(decision, entry=served))

    def record_answer(self, entry_id: str, response: str) -> None:
        """Learn in the background from the model's answer to a request that had missed."""
        trial = self._missed.pop(entry_id)
        if trial and trial.probability >= MIN_INTERESTING:
            self._run_later(lambda: self._compare(trial, response, served=False, weight=1.0))

    async def record_shadow_answer(self, trial: Trial, response: str, weight: float) -> None:
        """Learn from the model's answer to a request that the cache had served.

        The shadow request stands for ``weight`` hits.
        """
        await self._compare(trial, response, served=True, weight=weight)

    async def record_feedback(self, entry_id: str, *, correct: bool) -> None:
        """Learn from a caller's judgement of an entry that was served."""
        trial = self._served.pop(entry_id)
        if trial:
            observation = Observation(trial.features, correct, True, 1.0, trial.probability)
            await self._budgets.add(trial.tenant, observation)

    async def shadow_rate(self, trial: Trial) -> float:
        """Return the share of a tenant's hits to check with shadow requests."""
        return (await self._budgets.get(trial.tenant)).shadow_rate()

    async def counters(self, tenant: str) -> dict[str, float]:
        """Return how many of a tenant's hits were checked, and how many of those were wrong."""
        budget = await self._budgets.get_fresh(await self._scopes.tenant_partition(tenant))
        wrong, checked = budget.error_counts()
        return {"checked_wrong": wrong, "checked": checked}

    async def close(self) -> None:
        """Cancel the background work; its observations are lost."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read_entries(self, hits: Sequence[Hit], bound: Bound) -> list[tuple[Entry, float]]:
        """Return the entries of hits that are not too old, with their cosine similarities."""
        cosines = {hit.id: hit.similarity for hit in hits}
        records = await self._store.get_many([hit.id for hit in hits])
        entries = map(Entry.from_record, records)
        return [(entry, cosines[entry.id]) for entry in entries if not entry.is_too_old(bound)]

    async def _decide(
        self, lookup: BudgetLookup, near: Sequence[tuple[Entry, float]], max_error_rate: float
    ) -> Decision:
        tenant = await self._scopes.tenant_partition(lookup.request.scope.tenant)
        budget = await self._budgets.get(tenant)
        candidates = [_candidate(entry, similarity) for entry, similarity in near]
        chosen = await choose_candidate(
            budget,
            self._verifier,
            lookup.question,
            candidates,
            Requirements(lookup.min_probability, max_error_rate),
        )
        if chosen is None:
            return _contradiction(near)
        index, features = chosen
        entry, similarity = near[index]
        probability = budget.probability(features)
        trial = Trial(tenant, entry.id, features, probability)
        if probability >= budget.min_probability(max_error_rate):
            return Decision("semantic", entry, similarity, probability, trial=trial)
        reason = "explores" if probability >= MIN_PROBABILITY else "not_similar"
        decision = Decision("miss", None, similarity, probability, reason, trial=trial)
        return replace(decision, nearest=entry.as_nearest)

    async def _compare(self, trial: Trial, response: str, *, served: bool, weight: float) -> None:
        """Learn whether the entry of a trial gives the model's answer."""
        record = await self._store.get(trial.entry_id)
        if record is None:
            return
        cached, vectors = str(record["response"]), None
        if not same_answer(cached, response):
            vectors = (await self._embedder.embed_documents([cached, response], bulk=True)).rows
        correct = same_answer(cached, response, vectors)
        observation = Observation(
            trial.features, correct, served, weight, trial.probability, answer_id(response)
        )
        await self._budgets.add(trial.tenant, observation)

    def _run_later(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(_ignore_failures(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _contradiction(near: Sequence[tuple[Entry, float]]) -> Decision:
    """Return the miss of a question that contradicts all near ones."""
    entry, similarity = near[0]
    return Decision("miss", None, similarity, None, "contradicts", nearest=entry.as_nearest)


def _candidate(entry: Entry, similarity: float) -> Candidate:
    return Candidate(cached_question(entry), clamp_cosine(similarity), answer_id(entry.response))


async def _ignore_failures(work: Callable[[], Awaitable[None]]) -> None:
    with contextlib.suppress(Failure), deadlines.limit(deadlines.DEFAULT_DEADLINE):
        await work()
