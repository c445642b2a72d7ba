"""Answers and their events as JSON data, for the cache and for callers that share an answer.

The items of a shared answer are, in this order:

- ``{"decision": …}`` the decision of the semantic cache
- ``{"passages": […]}``  the passages that the answer will be written from
- ``{"delta": …}``      a piece of the answer's text, any number of times
- ``{"done": …}``       the answer; empty if the decision has an entry, which holds the answer
"""

from dataclasses import asdict, replace
from typing import Any

from services.gateway.cache.types import Decision, Entry, Nearest
from services.gateway.coalescing.singleflight import Item
from services.gateway.rag.timings import Timings
from services.gateway.rag.types import (
    Answer,
    Citation,
    Passage,
    RefusalDecision,
    Unsupported,
)

_DECISION_FIELDS = ("kind", "similarity", "probability", "miss_reason", "differing_parts")


def write_decision(decision: Decision) -> Item:
    """Return the item of a decision, without its trial."""
    data = {name: getattr(decision, name) for name in _DECISION_FIELDS}
    data["entry"] = asdict(decision.entry) if decision.entry else None
    # Replicas of an earlier version read the decision, and fail on a field that they do not know.
    return {"decision": data, "nearest": asdict(decision.nearest) if decision.nearest else None}


def read_decision(item: Item) -> Decision:
    """Return the decision of an item."""
    data = dict(item["decision"])
    record = data.pop("entry")
    nearest = item.get("nearest")
    return Decision(
        **data,
        entry=Entry.from_record(record) if record else None,
        nearest=Nearest(**nearest) if nearest else None,
    )


def write_passages(passages: list[Passage]) -> Item:
    """Return the item of passages, which must have no vectors."""
    return {"passages": [vars(passage) for passage in passages]}


def read_passages(item: Item) -> list[Passage]:
    """Return the passages of an item."""
    return [Passage(**passage) for passage in item["passages"]]


def write_answer(answer: Answer) -> Item:
    """Return the last item of an answer, without its decision."""
    timings = {name: value for name, value in vars(answer.timings).items() if name != "started"}
    done = {
        **write_detail(answer),
        "text": answer.text,
        "refusal": vars(answer.refusal) if answer.refusal else None,
        "usage": answer.usage,
        "dropped": answer.dropped,
        "timings": timings,
    }
    return {"done": done}


def read_answer(item: Item, decision: Decision, timings: Timings) -> Answer:
    """Return the answer of a last item.

    Args:
        item: the item.
        decision: the decision of an earlier item.
        timings: the seconds spent before the first item.
    """
    done = item["done"]
    refusal = done["refusal"]
    shared = Timings(**done["timings"])
    return Answer(
        text=done["text"],
        **_read_detail(done),
        decision=decision,
        timings=replace(
            shared, cache=shared.cache + timings.cache, started=timings.started
        ).finished(),
        refusal=RefusalDecision(**refusal) if refusal else None,
        usage=done["usage"],
        dropped=done["dropped"],
    )


def write_detail(answer: Answer) -> dict[str, Any]:
    """Return the part of an answer that the cache stores as the detail of its entry."""
    return {
        "citations": [asdict(citation) for citation in answer.citations],
        "passages": [vars(passage) for passage in answer.passages],
        "model": answer.model,
        "withheld": answer.withheld,
        "unsupported": [asdict(one) for one in answer.unsupported],
    }


def cached_answer(decision: Decision, timings: Timings) -> Answer:
    """Return the answer of a decision's entry."""
    assert decision.entry is not None  # noqa: S101 - the caller has checked
    entry = decision.entry
    return Answer(
        text=entry.response, **_read_detail(entry.detail), decision=decision, timings=timings
    )


def _read_detail(detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "citations": [Citation(**citation) for citation in detail["citations"]],
        "passages": [Passage(**passage) for passage in detail["passages"]],
        "model": detail["model"],
        "withheld": detail.get("withheld", 0),  # earlier versions did not drop sentences
        "unsupported": [Unsupported(**one) for one in detail["unsupported"]],
    }
