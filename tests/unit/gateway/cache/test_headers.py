import time

import pytest

from services.errors import PermissionDenied
from services.gateway.auth.caller import set_caller
from services.gateway.cache.headers import decision_headers, requested_scope
from services.gateway.cache.types import Decision, Entry, Scope
from services.key_file import Key


def test_headers_name_the_scope() -> None:
    assert requested_scope({}) == Scope()
    headers = {"x-memetwin-tenant": "acme", "x-memetwin-user": "ann", "x-memetwin-namespace": "faq"}
    assert requested_scope(headers) == Scope("acme", "ann", "faq")


def test_a_key_determines_the_tenant() -> None:
    set_caller(Key("0" * 64, "acme"))
    assert requested_scope({}) == Scope("acme")
    with pytest.raises(PermissionDenied):
        requested_scope({"x-memetwin-tenant": "umbrella"})


def test_a_decision_is_reported() -> None:
    entry = Entry("e1", "Hi?", "Yes.", Scope(), "", {}, time.time() - 5, 0.0)
    hit = decision_headers(Decision("semantic", entry, similarity=0.9))
    assert (hit["X-Memetwin-Cache"], hit["X-Memetwin-Entry-Id"]) == ("hit-semantic", "e1")
    assert int(hit["Age"]) >= 5
    miss = decision_headers(Decision("miss", miss_reason="too_old"))
    assert miss["X-Memetwin-Cache-Reason"] == "TOO_OLD"
    bypass = decision_headers(Decision("bypass", bypass_reason="temperature"))
    assert bypass["X-Memetwin-Cache-Reason"] == "TEMPERATURE"
