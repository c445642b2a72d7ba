import time

import pytest

from services.errors import InvalidArgument
from services.gateway.cache.purging import PurgeRequest
from services.gateway.cache.types import Entry, Scope


@pytest.mark.parametrize(
    ("request_", "matches"),
    [
        (PurgeRequest(), True),
        (PurgeRequest(cites=frozenset({"documents/1", "documents/9"})), True),
        (PurgeRequest(cites=frozenset({"documents/9"})), False),
        (PurgeRequest(older_than=50), True),
        (PurgeRequest(older_than=150), False),
        (PurgeRequest(fingerprint="f"), True),
        (PurgeRequest(fingerprint="g"), False),
        (PurgeRequest(prompt_contains="DOOR"), True),
        (PurgeRequest(prompt_contains="window"), False),
        (PurgeRequest(fingerprint="f", prompt_contains="window"), False),
        (PurgeRequest(curated=False), True),
        (PurgeRequest(curated=True), False),
    ],
)
def test_an_entry_must_meet_every_condition(request_: PurgeRequest, matches: bool) -> None:
    created = time.time() - 100
    entry = Entry("id", "Which door?", "!", Scope(), "f", {}, created, 0, cites=["documents/1"])
    assert request_.matches(entry) is matches


def test_deleting_everything_must_be_explicit() -> None:
    with pytest.raises(InvalidArgument) as caught:
        PurgeRequest(force=True).validate()
    assert (caught.value.reason, caught.value.field) == ("EMPTY_FILTER", "filter")
    for request in (
        PurgeRequest(),
        PurgeRequest(force=True, everything=True),
        PurgeRequest(force=True, older_than=0.0),
        PurgeRequest(force=True, curated=False),
        PurgeRequest(force=True, prompt_contains="x"),
    ):
        request.validate()


def test_the_record_names_the_fields_of_the_api() -> None:
    request = PurgeRequest(cites=frozenset("ba"), fingerprint="f")
    assert request.filter_record() == {
        "cites": ["a", "b"],
        "older_than": None,
        "context_fingerprint": "f",
        "prompt_contains": "",
    }


def test_the_record_names_the_kind_of_entries_only_if_it_was_a_condition() -> None:
    assert "curated" not in PurgeRequest().filter_record()
    assert PurgeRequest(curated=False).filter_record()["curated"] is False
