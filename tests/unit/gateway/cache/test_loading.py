from collections.abc import Sequence
from typing import Any

import pytest

from services.errors import InvalidArgument, Overloaded, Unavailable
from services.gateway.backends.types import TextReading, Vectors
from services.gateway.cache.curated import METADATA
from services.gateway.cache.eviction import Eviction, MemoryLimits
from services.gateway.cache.loading import (
    BATCH_SIZE,
    MAX_METADATA_BYTES,
    CuratedEntry,
    EntryLoader,
    LoadReceipt,
)
from services.gateway.cache.types import Bound, Context, Decision, NewEntry, Request, Scope
from tests.unit.gateway.cache.test_service import NEAR, Cache

SCOPE = Scope("t", "", "faq")
QUESTION, PARAPHRASE = "How do I turn dark mode on?", "How can I turn dark mode on?"
ANSWER = CuratedEntry(QUESTION, "In the settings.")
LONG = {"a": "x" * MAX_METADATA_BYTES}


class Loading:
    """A cache in memory and its loader."""

    def __init__(self, max_bytes: int = 0) -> None:
        self.cache = Cache()
        self.batches: list[list[str]] = []
        self.failures: list[Exception] = []
        embed = self.cache.embedder.embed_queries

        async def embed_queries(texts: Sequence[str], *, bulk: bool = False) -> Vectors:
            if bulk:
                self.batches.append(list(texts))
                if self.failures:
                    raise self.failures.pop(0)
                if any("refused" in text for text in texts):
                    raise InvalidArgument("BAD_TEXT", "The text is bad.")
            return await embed(texts)

        self.cache.embedder.embed_queries = embed_queries  # type: ignore[method-assign]
        self.loader = EntryLoader(
            self.cache.scopes,
            self.cache.store,
            self.cache.service._semantic_tier,
            self.cache.embedder,
            Eviction(self.cache.store, self.cache.search, MemoryLimits()),
            limits=MemoryLimits.of(max_bytes, 0),
        )

    async def load(self, *entries: CuratedEntry) -> list[LoadReceipt]:
        return [one async for batch in self.loader.load(SCOPE, entries) for one in batch]

    async def statuses(self, *entries: CuratedEntry) -> list[str]:
        return [one.status for one in await self.load(*entries)]

    async def lookup(self, prompt: str, bound: Bound = NEAR, **context: Any) -> Decision:
        asked = Request(SCOPE, Context(model="m", **context), prompt, curated_for="m")
        return await self.cache.service.lookup(asked, "exact_then_semantic", bound)

    async def generate(self, prompt: str, response: str) -> Any:
        return await self.cache.service.put(
            Request(SCOPE, Context(model="m"), prompt), NewEntry(response)
        )


@pytest.fixture
def loading() -> Loading:
    return Loading()


async def test_a_loaded_answer_is_served_in_both_tiers_whatever_the_parameters_are(
    loading: Loading,
) -> None:
    [receipt] = await loading.load(ANSWER)
    exact = await loading.lookup(
        QUESTION, parameters={"temperature": "0"}, system_prompt="Be kind."
    )
    near = await loading.lookup(PARAPHRASE, parameters={"temperature": "1"})
    assert [exact.kind, near.kind] == ["exact", "semantic"]
    for decision in (exact, near):
        assert decision.entry
        assert (decision.entry.id, decision.entry.response) == (receipt.id, "In the settings.")
        assert (decision.entry.is_curated, decision.entry.ttl) == (True, 0)


async def test_an_entry_of_another_model_answers_nobody_else(loading: Loading) -> None:
    await loading.load(CuratedEntry(QUESTION, "For n.", model="n"))
    missed = await loading.lookup(QUESTION)
    assert (missed.miss_reason, missed.differing_parts) == ("context_differs", ["model"])
    await loading.load(ANSWER, CuratedEntry(QUESTION, "For m.", model="m"))
    served = await loading.lookup(QUESTION)
    assert served.entry
    assert served.entry.response == "For m."


async def test_a_request_that_wants_no_curated_entries_gets_none(loading: Loading) -> None:
    await loading.load(ANSWER)
    asked = Request(SCOPE, Context(model="m"), QUESTION)
    decision = await loading.cache.service.lookup(asked, "exact_then_semantic", NEAR)
    assert decision.kind == "miss"


async def test_curated_answers_come_before_generated_ones(loading: Loading) -> None:
    await loading.generate(QUESTION, "Generated.")
    near = "How do I turn the dark mode on?"
    generated = await loading.generate(near, "Generated too.")
    await loading.load(ANSWER)
    exact, semantic = await loading.lookup(QUESTION), await loading.lookup(PARAPHRASE)
    assert exact.entry
    assert semantic.entry
    assert exact.entry.is_curated
    assert semantic.entry.is_curated
    same = await loading.lookup(near)  # a generated answer to exactly this question
    assert (same.kind, same.entry) == ("exact", generated)


async def test_many_nearer_generated_answers_do_not_hide_a_curated_one(loading: Loading) -> None:
    for number in range(12):
        await loading.generate(f"{PARAPHRASE}{'!' * (number + 1)}", "Generated.")
    await loading.load(ANSWER)
    served = await loading.lookup(f"{PARAPHRASE}?")
    assert served.entry
    assert served.entry.is_curated


async def test_a_generated_answer_does_not_replace_a_curated_one(loading: Loading) -> None:
    await loading.load(ANSWER)
    await loading.generate(QUESTION, "Generated.")
    served = await loading.lookup(QUESTION)
    assert served.entry
    assert served.entry.response == "In the settings."


async def test_a_curated_hit_is_no_lesson_for_the_error_budget(loading: Loading) -> None:
    await loading.load(ANSWER)
    strict = await loading.lookup(QUESTION.rstrip("?"), Bound(max_error_rate=0.0001))
    assert strict.kind == "miss"
    assert not loading.cache.controller._missed.pop(
        await loading.cache.scopes.entry_id(
            Request(SCOPE, Context(model="m"), QUESTION.rstrip("?"))
        )
    )
    loose = await loading.lookup(QUESTION.rstrip("?"), Bound(max_error_rate=0.9))
    assert (loose.kind, loose.trial) == ("semantic", None)


async def test_a_repeated_load_writes_only_what_has_changed(loading: Loading) -> None:
    other = CuratedEntry("Where is my order?", "In your account.", cites=("faq",))
    assert await loading.statuses(ANSWER, other) == ["created", "created"]
    loading.batches.clear()
    changed = CuratedEntry("Where is my order?", "In your account.", cites=("faq", "page"))
    assert await loading.statuses(ANSWER, changed) == ["unchanged", "replaced"]
    assert loading.batches == [["Where is my order?"]]
    loading.batches.clear()
    loading.cache.embedder.model = loading.cache.embedder.model.__class__("new", 16, 128)
    assert await loading.statuses(ANSWER) == ["replaced"]  # its vector is of another model


async def test_a_load_renews_the_time_to_live(loading: Loading) -> None:
    entry = CuratedEntry(QUESTION, "In the settings.", ttl=60)
    assert await loading.statuses(entry) == ["created"]
    assert await loading.statuses(entry) == ["replaced"]


async def test_the_last_of_equal_prompts_is_kept(loading: Loading) -> None:
    assert await loading.statuses(ANSWER, CuratedEntry(QUESTION, "In the menu.")) == [
        "created",
        "replaced",
    ]
    served = await loading.lookup(QUESTION)
    assert served.entry
    assert served.entry.response == "In the menu."


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (CuratedEntry(" ", "Yes."), "EMPTY_PROMPT"),
        (CuratedEntry("x" * 32769, "Yes."), "PROMPT_TOO_LONG"),
        (CuratedEntry("Why?", ""), "EMPTY_RESPONSE"),
        (CuratedEntry("Why?", "Because.", ttl=-1), "BAD_TTL"),
        (
            CuratedEntry("Why?", "Yes.", metadata={"a": "x" * MAX_METADATA_BYTES}),
            "METADATA_TOO_LONG",
        ),
        (CuratedEntry("This is refused.", "Yes."), "BAD_TEXT"),
    ],
)
async def test_a_bad_entry_does_not_affect_the_others(
    loading: Loading, bad: CuratedEntry, reason: str
) -> None:
    other = CuratedEntry("Where is my order?", "In your account.")
    receipts = await loading.load(ANSWER, bad, other)
    assert [one.status for one in receipts] == ["created", "refused", "created"]
    assert receipts[1].failure
    assert receipts[1].failure.reason == reason
    assert len(loading.cache.store.records) == 2


async def test_entries_are_embedded_and_indexed_in_batches(loading: Loading) -> None:
    entries = [CuratedEntry(f"Question {number}?", "Yes.") for number in range(BATCH_SIZE + 10)]
    assert await loading.statuses(*entries) == ["created"] * len(entries)
    assert [len(batch) for batch in loading.batches] == [BATCH_SIZE, 10]
    assert [len(batch) for batch in loading.cache.search.upserts] == [16] * 4 + [10]


async def test_an_unreadable_prompt_is_found_only_exactly(loading: Loading) -> None:
    loading.cache.embedder.readings[QUESTION] = TextReading(readable=False)
    await loading.load(ANSWER)
    assert not loading.cache.search.upserts
    assert (await loading.lookup(PARAPHRASE)).kind == "miss"
    assert (await loading.lookup(QUESTION)).kind == "exact"


async def test_an_overloaded_embedder_is_tried_again(loading: Loading) -> None:
    loading.failures = [
        Overloaded("QUEUE_FULL", "Too much."),
        Unavailable("EMBEDDER_UNAVAILABLE", "Away."),
    ]
    assert await loading.statuses(ANSWER) == ["created"]
    assert len(loading.batches) == 3


async def test_half_of_the_memory_is_for_curated_entries() -> None:
    loading = Loading(max_bytes=2)
    assert await loading.statuses(ANSWER) == ["created"]
    other = CuratedEntry("Where is my order?", "In your account.")
    changed = CuratedEntry(QUESTION, "In the menu.")
    replaced, full = await loading.load(changed, other)
    assert replaced.status == "replaced"
    assert full.failure
    assert (full.status, full.failure.reason) == ("refused", "CURATED_ENTRIES_FULL")


async def test_metadata_is_stored(loading: Loading) -> None:
    await loading.load(CuratedEntry(QUESTION, "Yes.", metadata={"category": "display"}))
    served = await loading.lookup(QUESTION)
    assert served.entry
    assert served.entry.detail[METADATA] == {"category": "display"}
