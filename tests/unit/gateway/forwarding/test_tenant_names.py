import contextvars

import pytest

from services.errors import InvalidArgument, PermissionDenied
from services.gateway.auth.caller import set_caller
from services.gateway.forwarding.tenant_names import TenantNames
from services.gateway.tenants import Tenant
from services.key_file import Key

TAG = "0123456789abcdef" * 2
OWN, DEFAULT = TenantNames(Tenant(TAG)), TenantNames(Tenant())


@pytest.mark.parametrize(
    "name",
    ["cache-x", "documents-x", "twins-x", "twin-titles-x", "reembedded-x", f"tenant-{TAG}-x"],
)
@pytest.mark.parametrize("tenant", [OWN, DEFAULT])
def test_internal_collections_are_out_of_reach(tenant: TenantNames, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        tenant.to_search(name, "queries[1].collection")
    assert (caught.value.reason, caught.value.field) == ("RESERVED_NAME", "queries[1].collection")
    assert not tenant.is_visible(tenant.prefix + name)


def test_names_have_the_tenants_prefix_in_search() -> None:
    assert OWN.to_search("notes", "name") == f"tenant-{TAG}-notes"
    assert OWN.from_search(f"tenant-{TAG}-notes", "name") == "notes"
    assert DEFAULT.to_search("notes", "name") == "notes" == DEFAULT.from_search("notes", "name")
    for other in ("notes", "tenant-" + "f" * 32 + "-notes"):
        assert OWN.from_search(other, "name") == ""
        assert not OWN.is_visible(other)
    assert not DEFAULT.is_visible(f"tenant-{TAG}-notes")
    assert OWN.is_visible(f"tenant-{TAG}-notes")


def test_a_name_fits_with_its_prefix() -> None:
    assert len(OWN.to_search("x" * 88, "name")) == 128
    with pytest.raises(InvalidArgument, match="1 to 88"):
        OWN.to_search("x" * 89, "name")


def test_a_key_may_be_limited_to_some_collections() -> None:
    def check() -> None:
        set_caller(Key("k", "tenant", collections=frozenset({"notes"})))
        assert OWN.to_search("notes", "name")
        with pytest.raises(PermissionDenied):
            OWN.to_search("other", "name")
        assert OWN.is_visible(f"tenant-{TAG}-notes")
        assert not OWN.is_visible(f"tenant-{TAG}-other")

    contextvars.copy_context().run(check)
