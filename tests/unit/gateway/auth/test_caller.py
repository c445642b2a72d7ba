import contextvars
from collections.abc import Callable

import pytest

from services.errors import PermissionDenied
from services.gateway.auth.caller import (
    check_collection,
    current_key_name,
    current_max_error_rate,
    current_scope,
    current_tenant,
    may_use_collection,
    set_caller,
)
from services.key_file import Key

DIGEST = "0123abcd" * 8


def run(key: Key, check: Callable[[], None]) -> None:
    """Call ``check`` as a call of the owner of ``key``."""

    def call() -> None:
        set_caller(key)
        check()

    contextvars.copy_context().run(call)


def refused(*scope: str) -> str:
    with pytest.raises(PermissionDenied) as caught:
        current_scope(*scope)
    return caught.value.reason


def test_a_key_determines_the_tenant_the_name_and_the_bound() -> None:
    def check() -> None:
        assert current_tenant("") == current_tenant("acme") == "acme"
        assert (current_key_name(), current_max_error_rate()) == ("0123abcd", 0.01)
        assert current_scope("", "ann", "app") == ("acme", "ann", "app")
        assert refused("umbrella", "", "") == "OTHER_TENANT"

    run(Key(DIGEST, "acme", max_error_rate=0.01), check)


def test_a_key_of_a_user_uses_only_that_users_scopes() -> None:
    def check() -> None:
        assert current_scope("", "", "") == current_scope("", "ann", "") == ("acme", "ann", "")
        assert refused("", "bob", "") == "OTHER_USER"

    run(Key(DIGEST, "acme", user="ann"), check)


def test_a_key_without_users_shares_the_scopes_of_nobody() -> None:
    def check() -> None:
        assert current_scope("", "", "") == ("acme", "", "")
        assert refused("", "bob", "") == "OTHER_USER"

    run(Key(DIGEST, "acme", user=""), check)


def test_a_key_of_namespaces_uses_only_those_and_the_first_by_default() -> None:
    def check() -> None:
        assert current_scope("", "", "") == ("acme", "", "app")
        assert current_scope("", "", "test") == ("acme", "", "test")
        assert refused("", "", "other") == "NAMESPACE_NOT_ALLOWED"

    run(Key(DIGEST, "acme", namespaces=("app", "test")), check)


def test_a_key_of_collections_uses_only_those() -> None:
    def check() -> None:
        check_collection("manuals")
        assert not may_use_collection("letters")
        with pytest.raises(PermissionDenied) as caught:
            check_collection("letters", "additional_collections[0]")
        assert caught.value.field == "additional_collections[0]"

    run(Key(DIGEST, "acme", collections=frozenset({"manuals"})), check)


def test_without_keys_a_call_names_everything() -> None:
    check_collection("any")
    assert current_scope("any", "ann", "app") == ("any", "ann", "app")
    assert (current_tenant("any"), current_key_name()) == ("any", "")
    assert current_max_error_rate() is None
