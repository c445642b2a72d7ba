from dataclasses import replace

import pytest

from services.gateway.cache.curated import (
    curated_context,
    curated_requests,
    differing_parts,
    is_curated,
)
from services.gateway.cache.scopes import entry_id
from services.gateway.cache.types import Context, Entry, Request, Scope

PLAIN = Request(Scope("t"), Context(model="m", system_prompt="s"), "Where?")


def entry(model: str) -> Entry:
    context = curated_context(model)
    key = entry_id("p", Request(Scope("t"), context, "Where?"))
    return Entry(key, "Where?", "Here.", Scope("t"), context.fingerprint, context.parts, 0.0, 0.0)


def test_a_request_asks_for_the_entries_of_its_model_before_those_of_any_model() -> None:
    asked = curated_requests(replace(PLAIN, curated_for="m"))
    assert [one.context.model for one in asked] == ["m", ""]
    assert {one.prompt for one in asked} == {"Where?"}
    assert [one.context.model for one in curated_requests(replace(PLAIN, curated_for=""))] == [""]
    assert curated_requests(PLAIN) == []


def test_no_context_of_a_caller_has_the_key_of_a_curated_entry() -> None:
    curated = curated_requests(replace(PLAIN, curated_for="m"))
    keys = {entry_id("p", one) for one in (*curated, PLAIN, replace(PLAIN, context=Context("m")))}
    assert len(keys) == 4
    assert sum(map(is_curated, keys)) == 2
    assert entry("m").is_curated
    assert Context(model="m").fingerprint != curated_context("m").fingerprint


@pytest.mark.parametrize(
    ("model", "context", "differing"),
    [
        ("", {"parameters": {"temperature": "0"}, "system_prompt": "s"}, []),
        ("m", {"parameters": {"temperature": "0"}}, []),
        ("other", {}, ["model"]),
        ("", {"history": [("user", "Hello.")], "tools": ["t"]}, ["tools", "history"]),
    ],
)
def test_only_parts_that_matter_to_an_owner_differ(
    model: str, context: dict[str, object], differing: list[str]
) -> None:
    assert differing_parts(Context(model="m", **context), entry(model)) == differing  # type: ignore[arg-type]
