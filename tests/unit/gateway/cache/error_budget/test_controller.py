import time
from dataclasses import asdict, replace

import pytest

from services.gateway.backends.types import Hit
from services.gateway.cache.error_budget.controller import BudgetLookup, ErrorBudgetController
from services.gateway.cache.error_budget.policy import ErrorBudget
from services.gateway.cache.error_budget.store import ObservationStore
from services.gateway.cache.owners import Owner
from services.gateway.cache.types import Bound, Context, Decision, Entry, Request, Scope, Trial
from services.gateway.cache.verifier.lexical_text import LexicalText
from services.gateway.cache.verifier.model import Question, Verifier
from services.gateway.cache.verifier.pair_verifier import PairVerifier
from tests.fakes.backends import FakeEmbedder
from tests.fakes.cache_store import FakeCacheStore, fake_scopes
from tests.fakes.redis import FakeRedis

ON, ALSO_ON, OFF = (
    "How do I turn dark mode on?",
    "How can I turn dark mode on?",
    "How do I turn dark mode off?",
)
LOOSE, STRICT = Bound(max_error_rate=0.5), Bound(max_error_rate=0.0001)


class House:
    """A controller over entries in memory."""

    def __init__(self) -> None:
        self.scopes, self.store, self.embedder = fake_scopes(), FakeCacheStore(), FakeEmbedder()
        observations = ObservationStore(FakeRedis(), "p:")  # type: ignore[arg-type]
        self.controller = ErrorBudgetController(
            self.scopes,
            self.store,
            observations,
            self.embedder,
            PairVerifier(Verifier.load(), None),
        )

    async def add(self, key: str, prompt: str, response: str = "Press it.", age: float = 0) -> None:
        created = time.time() - age
        entry = Entry(key, prompt, response, Scope("t"), "f", {}, created, 10, digest="d")
        await self.store.put(Owner("p", "t"), asdict(entry), 0)

    async def choose(self, *keys: str, bound: Bound = LOOSE) -> Decision | None:
        return await self.controller.choose(lookup(), [hit(key) for key in keys], bound)

    async def budget(self) -> ErrorBudget:
        return await self.controller._budgets.get_fresh(await self.scopes.tenant_partition("t"))

    async def finish(self) -> None:
        for task in list(self.controller._tasks):
            await task


def lookup(prompt: str = ON) -> BudgetLookup:
    return BudgetLookup(
        Request(Scope("t"), Context(), prompt), Question(LexicalText(prompt)), "exact-id"
    )


def hit(key: str, similarity: float = 0.95) -> Hit:
    return Hit(key, similarity, 1 - similarity, {}, "", b"")


@pytest.fixture
def house() -> House:
    return House()


async def trial(house: House, bound: Bound = LOOSE) -> Trial:
    await house.add("on", ALSO_ON)
    decision = await house.choose("on", bound=bound)
    assert decision
    assert decision.trial
    return decision.trial


async def test_a_probable_answer_is_served_within_the_rate(house: House) -> None:
    await house.add("off", OFF)
    await house.add("on", ALSO_ON)
    decision = await house.choose("off", "on")
    assert decision
    assert decision.entry
    assert (decision.kind, decision.entry.id) == ("semantic", "on")
    strict = await house.choose("off", "on", bound=STRICT)
    assert strict
    assert (strict.kind, strict.miss_reason) == ("miss", "explores")


async def test_an_entry_with_an_equal_prompt_teaches_nothing(house: House) -> None:
    await house.add("exact-id", ON)
    decision = await house.choose("exact-id")
    assert decision
    assert (decision.kind, decision.trial) == ("semantic", None)
    house.controller.record_decision("", replace(decision, trial=await trial(house)))
    await house.choose("exact-id")  # what was served last is what feedback is about
    await house.controller.record_feedback("exact-id", correct=False)
    assert (await house.budget()).error_counts() == (0, 0)


async def test_without_usable_entries_there_is_no_decision(house: House) -> None:
    assert await house.choose("gone") is None
    await house.add("old", ALSO_ON, age=20)
    assert await house.choose("old") is None


async def test_contradictions_alone_are_a_miss(house: House) -> None:
    await house.add("off", OFF)
    decision = await house.choose("off")
    assert decision
    assert (decision.miss_reason, decision.trial) == ("contradicts", None)


@pytest.mark.parametrize(("answer", "correct"), [("press  it.", 1), ("Call support.", 0)])
async def test_the_answer_to_a_miss_becomes_an_observation(
    house: House, answer: str, correct: int
) -> None:
    await trial(house, STRICT)
    house.controller.record_answer("exact-id", answer)
    house.controller.record_answer("exact-id", "A second answer counts nothing.")
    await house.finish()
    labels = (await house.budget())._labels
    assert labels[:, :3].tolist() == [[correct, 0, 1]]


async def test_answers_that_differ_in_words_are_compared_by_vector(house: House) -> None:
    await trial(house, STRICT)
    assert not house.embedder.embedded
    house.controller.record_answer("exact-id", "Call support.")
    await house.finish()
    assert house.embedder.embedded == ["Press it.", "Call support."]


async def test_feedback_is_about_what_was_served_last(house: House) -> None:
    await trial(house)
    await house.controller.record_feedback("on", correct=False)
    await house.controller.record_feedback("on", correct=False)  # the trial is over
    assert await house.controller.counters("t") == {"checked": 1, "checked_wrong": 1}
    await trial(house)
    entry = Entry.from_record(house.store.records["on"][1])
    house.controller.record_decision("on", Decision("exact", entry))
    await house.controller.record_feedback("on", correct=False)
    assert await house.controller.counters("t") == {"checked": 1, "checked_wrong": 1}


async def test_a_shadow_answer_counts_with_its_weight(house: House) -> None:
    one = await trial(house)
    before = await house.controller.shadow_rate(one)
    await house.controller.record_shadow_answer(one, "Press it.", 4.0)
    labels = (await house.budget())._labels
    assert labels[:, :3].tolist() == [[1, 1, 4]]
    assert await house.controller.shadow_rate(one) < before == 1
    await house.store.delete(["on"])
    await house.controller.record_shadow_answer(one, "Press it.", 4.0)
    assert len((await house.budget())._labels) == 1


async def test_another_replica_restores_the_trial_of_a_served_entry(house: House) -> None:
    await house.add("on", ALSO_ON)
    await house.add("off", OFF)
    served = {key: Entry.from_record(house.store.records[key][1]) for key in ("on", "off")}
    await house.controller.restore_trial(lookup(), [hit("on")], served["off"])
    await house.controller.record_feedback("off", correct=True)
    await house.controller.restore_trial(lookup(), [], served["on"])
    await house.controller.record_feedback("on", correct=True)
    assert (await house.controller.counters("t"))["checked"] == 0
    await house.controller.restore_trial(lookup(), [hit("on")], served["on"])
    await house.controller.record_feedback("on", correct=True)
    assert await house.controller.counters("t") == {"checked": 1, "checked_wrong": 0}


async def test_closing_cancels_the_background(house: House) -> None:
    await trial(house, STRICT)
    house.controller.record_answer("exact-id", "Call support.")
    await house.controller.close()
    assert not house.controller._tasks
    assert len((await house.budget())._labels) == 0
