import json
from dataclasses import replace
from typing import Any

import pytest

from services.gateway.cache.types import Context, Decision, Nearest, NewEntry, Request, Scope
from services.gateway.rag import answer_items
from services.gateway.rag.timings import Timings
from services.gateway.rag.types import (
    Answer,
    Citation,
    RefusalDecision,
    Unsupported,
)
from tests.fakes.cache import entry
from tests.fakes.passages import passage

PASSAGES = [passage("The otter swims.", "a"), passage("The heron waits.", "b", title="Birds")]
CITATION = Citation(0, 3, "a", "v", "a#0", 4, 9, "otter")
MISS = Decision("miss", None, 0.5, None, "context_differs", ["model"])


def sent(item: Any) -> Any:
    """Return an item as another replica receives it."""
    return json.loads(json.dumps(item))


@pytest.mark.parametrize("refusal", [None, RefusalDecision(True, 0.1, 0.4, 0.2)])
def test_an_answer_arrives_as_it_was_sent(refusal: RefusalDecision | None) -> None:
    answer = Answer(
        text="It swims [1].",
        citations=[CITATION],
        passages=PASSAGES,
        decision=MISS,
        timings=Timings(cache=1.0, embed=2.0, generate=3.0),
        refusal=refusal,
        model="model",
        usage={"prompt_tokens": 7},
        unsupported=[Unsupported(1, 2, "number", "7")],
        dropped=2,
        withheld=3,
    )
    own = Timings(cache=0.5)
    read = answer_items.read_answer(sent(answer_items.write_answer(answer)), MISS, own)
    assert (read.timings.cache, read.timings.embed, read.timings.generate) == (1.5, 2.0, 3.0)
    assert read.timings.total > 0
    assert read.timings.started == own.started
    read.timings = answer.timings
    assert read == answer


def test_passages_arrive_as_they_were_sent() -> None:
    item = sent(answer_items.write_passages(PASSAGES))
    assert answer_items.read_passages(item) == PASSAGES


def test_a_miss_arrives_as_it_was_sent() -> None:
    assert answer_items.read_decision(sent(answer_items.write_decision(MISS))) == MISS


def test_a_hit_arrives_with_its_entry_and_its_answer() -> None:
    stored = Answer("It swims.", [CITATION], PASSAGES, MISS, Timings(), model="model")
    new = NewEntry(
        "It swims.", usage={"prompt_tokens": 7}, detail=answer_items.write_detail(stored)
    )
    hit = Decision("semantic", entry("id", new, Request(Scope("t"), Context(), "Where?")), 0.9, 0.8)
    read = answer_items.read_decision(sent(answer_items.write_decision(hit)))
    assert read == hit
    answer = answer_items.cached_answer(read, stored.timings)
    assert (answer.text, answer.citations, answer.passages) == ("It swims.", [CITATION], PASSAGES)
    assert (answer.model, answer.usage) == ("model", {})


def test_answers_of_earlier_versions_are_read() -> None:
    """They have neither a verdict for each citation nor a reason for each unsupported sentence."""
    detail = answer_items.write_detail(Answer("", [CITATION], PASSAGES, MISS, Timings()))
    del detail["withheld"], detail["citations"][0]["supported"]
    detail["unsupported"] = [{"start": 1, "end": 2}]
    new = NewEntry("It swims.", detail=detail)
    hit = Decision("exact", entry("id", new, Request(Scope("t"), Context(), "Where?")))
    answer = answer_items.cached_answer(hit, Timings())
    assert answer.unsupported == [Unsupported(1, 2, "no_citation")]
    assert (answer.citations, answer.withheld) == ([CITATION], 0)


def test_the_nearest_entry_of_a_miss_arrives_beside_the_decision() -> None:
    item = sent(answer_items.write_decision(replace(MISS, nearest=Nearest("n", "N?"))))
    assert "nearest" not in item["decision"]  # which earlier versions read strictly
    assert answer_items.read_decision(item).nearest == Nearest("n", "N?")
    del item["nearest"]
    assert answer_items.read_decision(item) == MISS
