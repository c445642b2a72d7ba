import contextvars

import pytest

from services.errors import PermissionDenied
from services.gateway.auth.caller import (
    Caller,
    current_key_name,
    current_max_error_rate,
    current_tenant,
    set_caller,
)


def test_a_caller_decides_the_tenant_the_name_and_the_bound() -> None:
    def call() -> None:
        set_caller(Caller("acme", frozenset(), "0123abcd", 0.01))
        assert current_tenant("") == current_tenant("acme") == "acme"
        assert (current_key_name(), current_max_error_rate()) == ("0123abcd", 0.01)
        with pytest.raises(PermissionDenied) as caught:
            current_tenant("umbrella")
        assert caught.value.reason == "OTHER_TENANT"

    contextvars.copy_context().run(call)


def test_without_a_caller_a_call_names_its_tenant() -> None:
    assert (current_tenant("any"), current_key_name(), current_max_error_rate()) == (
        "any",
        "",
        None,
    )
