import asyncio
import contextvars
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest

from services.gateway.auth.caller import set_caller
from services.gateway.cache.lookup_log import LoggedLookup, LookupLog
from services.gateway.cache.lookup_report import LookupReport
from services.gateway.cache.verifier.model import Verifier
from services.key_file import Key
from tests.fakes.cache_store import FakeCacheStore, fake_scopes
from tests.fakes.redis import FakeRedis

T = TypeVar("T")


class House:
    def __init__(self) -> None:
        self.log, self.store = LookupLog(FakeRedis(), "p:", 10), FakeCacheStore()  # type: ignore[arg-type]
        self.scopes = fake_scopes()
        self.report = LookupReport(self.log, self.scopes, self.store, Verifier.load())

    async def add(self, prompt: str, nearest: str = "", **fields: Any) -> None:
        values: dict[str, Any] = {"kind": "miss", "user": "", "namespace": "", "entry_id": prompt}
        values |= {"time": time.time(), "prompt": prompt, "nearest_prompt": nearest} | fields
        await self.log.add({await self.scopes.tenant_partition("t"): [LoggedLookup(**values)]})


@pytest.fixture
def house() -> House:
    return House()


async def test_a_report_tells_which_answers_are_stored(house: House) -> None:
    await house.add("a")
    await house.add("b")
    house.store.records["b"] = ("", {})
    assert [(one.lookup.prompt, one.is_stored) for one in await house.report.read("t")] == [
        ("b", True),
        ("a", False),
    ]
    assert await house.report.read("u") == []


async def test_a_report_names_the_rule_of_a_contradiction(house: House) -> None:
    refunds = "Can I get a refund after 30 days?", "Can I get a refund after 60 days?"
    await house.add(*refunds, reason="contradicts")
    await house.add(*refunds, reason="not_similar")
    await house.add("x" * 500, "y" * 500, reason="contradicts")  # only their starts are known
    assert [one.rule for one in await house.report.read("t")] == ["", "", "number"]


async def test_a_key_sees_the_lookups_of_its_scopes(house: House) -> None:
    await house.add("a", namespace="shop", user="ann")
    await house.add("b", namespace="shop", user="bob")
    await house.add("c", namespace="help", user="ann")

    async def read(key: Key, namespace: str | None = None) -> list[str]:
        set_caller(key)
        return [one.lookup.prompt for one in await house.report.read("t", namespace)]

    async def run(work: Awaitable[T]) -> T:
        return await asyncio.create_task(work, context=contextvars.Context())  # type: ignore[arg-type]

    assert await run(read(Key("", "t"))) == ["c", "b", "a"]
    assert await run(read(Key("", "t"), "shop")) == ["b", "a"]
    assert await run(read(Key("", "t", user="ann"))) == ["c", "a"]
    assert await run(read(Key("", "t", namespaces=("help",)))) == ["c"]
