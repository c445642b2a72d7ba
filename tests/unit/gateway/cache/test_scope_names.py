import time
from typing import Any

import pytest

from services.gateway.cache import scope_names
from services.gateway.cache.scope_names import KEPT_SECONDS, MAX_CHARACTERS, ScopeNames
from tests.fakes.redis import FakeRedis


@pytest.fixture
def names() -> ScopeNames:
    return ScopeNames(FakeRedis(), "p:")  # type: ignore[arg-type]


async def test_tenants_are_listed_until_they_are_forgotten(names: ScopeNames) -> None:
    await names.add_tenants({"b", "a", ""})
    await names.add_tenants([])
    await names.add_tenants(["x" * (MAX_CHARACTERS + 1)])
    assert await names.tenants() == ["", "a", "b"]
    await names.forget_tenant("a")
    assert await names.tenants() == ["", "b"]


async def test_the_first_namespaces_of_a_tenant_have_a_place(
    names: ScopeNames, monkeypatch: Any
) -> None:
    monkeypatch.setattr(scope_names, "MAX_NAMESPACES", 2)
    assert await names.add_namespaces({"t": {"a", ""}}) == {"t": {"a", ""}}
    placed = await names.add_namespaces({"t": {"a", "c"}, "u": {"c"}})
    assert placed == {"t": {"a"}, "u": {"c"}}
    assert await names.namespaces("t") == ["", "a"]
    assert await names.namespaces("u") == ["c"]
    assert await names.add_namespaces({"t": {"x" * (MAX_CHARACTERS + 1)}}) == {"t": set()}
    assert await names.add_namespaces({}) == {}


async def test_a_namespace_that_nobody_uses_loses_its_place(
    names: ScopeNames, monkeypatch: Any
) -> None:
    monkeypatch.setattr(scope_names, "MAX_NAMESPACES", 1)
    await names.add_namespaces({"t": {"old"}})
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + KEPT_SECONDS + 1)
    assert await names.add_namespaces({"t": {"new"}}) == {"t": {"new"}}
    assert await names.namespaces("t") == ["new"]
