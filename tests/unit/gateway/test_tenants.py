import pytest
from redis.crc import key_slot

from services.errors import InvalidArgument
from services.gateway.tenants import INTERNAL_PREFIXES, Tenant, Tenants, check_collection_name
from services.search import listing


async def secret() -> bytes:
    return b"s" * 32


async def other_secret() -> bytes:
    return b"o" * 32


async def test_the_default_tenant_keeps_plain_names() -> None:
    assert await Tenants(secret).collection_name("", "pages") == "pages"
    assert Tenant().plain_name("pages") == "pages"


async def test_the_names_of_other_tenants_contain_a_keyed_hash() -> None:
    tenants = Tenants(secret)
    acme, globex = [await tenants.get(name) for name in ("acme", "globex")]
    assert len(acme.tag) == 32
    assert "acme" not in acme.tag
    assert acme.collection_name("pages") == f"tenant-{acme.tag}-pages"
    assert await tenants.collection_name("acme", "pages") == acme.collection_name("pages")
    assert acme.tag != globex.tag
    assert acme != await Tenants(other_secret).get("acme")


async def test_a_tenant_knows_only_its_own_collections() -> None:
    acme, globex = [await Tenants(secret).get(name) for name in ("acme", "globex")]
    name = acme.collection_name("pages")
    assert acme.plain_name(name) == "pages"
    assert globex.plain_name(name) is None
    assert Tenant().plain_name(name) is None
    assert acme.plain_name("pages") is None


@pytest.mark.parametrize("name", ["pages", "}", "a}b", "{x}", ""])
async def test_keys_with_the_hash_tag_of_a_name_share_a_slot(name: str) -> None:
    for tenant in (Tenant(), await Tenants(secret).get("acme")):
        keys = [
            f"p:{kind}:{tenant.hash_tag(name)}{end}" for kind in ("a", "b") for end in ("", ":z")
        ]
        assert len({key_slot(key.encode()) for key in keys}) == 1


@pytest.mark.parametrize("prefix", INTERNAL_PREFIXES)
def test_callers_may_not_use_internal_names(prefix: str) -> None:
    check_collection_name("pages", "name")
    with pytest.raises(InvalidArgument) as caught:
        check_collection_name(f"{prefix}pages", "name")
    assert caught.value.reason == "RESERVED_NAME"


def test_search_hides_the_same_internal_collections() -> None:
    assert INTERNAL_PREFIXES == listing.INTERNAL_PREFIXES
