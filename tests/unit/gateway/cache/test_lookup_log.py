import time
from typing import Any

import pytest

from services.gateway.cache.lookup_log import KEPT_SECONDS, LoggedLookup, LookupLog
from services.gateway.cache.types import Context, Decision, Nearest, Request, Scope
from tests.fakes.redis import FakeRedis


def lookup(number: float, kind: str = "miss", **fields: Any) -> LoggedLookup:
    values: dict[str, Any] = {"user": "", "namespace": "", "prompt": f"{number}?", "entry_id": "e"}
    return LoggedLookup(time.time() - 100 + number, kind, **values | fields)


@pytest.fixture
def redis() -> FakeRedis:
    return FakeRedis()


@pytest.fixture
def log(redis: FakeRedis) -> LookupLog:
    return LookupLog(redis, "p:", 3)  # type: ignore[arg-type]


def test_a_lookup_has_the_start_of_its_prompt_and_of_the_nearest_one() -> None:
    request = Request(Scope("t", "ann", "shop"), Context(), "x" * 600)
    decision = Decision("miss", similarity=0.9, miss_reason="contradicts")
    one = LoggedLookup.of(request, decision, "e")
    assert (one.user, one.namespace, one.prompt) == ("ann", "shop", "x" * 500)
    assert (one.entry_id, one.nearest_id, one.nearest_prompt) == ("e", "", "")
    near = Decision("miss", similarity=0.9, nearest=Nearest("n", "y" * 600))
    two = LoggedLookup.of(request, near, "e")
    assert (two.nearest_id, two.nearest_prompt) == ("n", "y" * 500)


async def test_the_latest_of_each_kind_stay(log: LookupLog) -> None:
    await log.add({"t": [lookup(n) for n in range(5)] + [lookup(n, "semantic") for n in range(2)]})
    await log.add({"t": [lookup(9)], "u": [lookup(7)]})
    read = await log.read("t")
    assert [(one.kind, one.prompt) for one in read] == [
        ("miss", "9?"),
        ("miss", "4?"),
        ("miss", "3?"),
        ("semantic", "1?"),
        ("semantic", "0?"),
    ]
    assert [one.prompt for one in await log.read("u")] == ["7?"]
    await log.add({})


async def test_old_lookups_are_deleted(log: LookupLog, redis: FakeRedis, monkeypatch: Any) -> None:
    await log.add({"t": [lookup(1)]})
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + KEPT_SECONDS + 1)
    assert await log.read("t") == []
    await log.add({"t": [lookup(200)]})
    assert len(redis.values["p:gateway:lookups:t:miss"]) == 1
    assert redis.expiries == {"p:gateway:lookups:t:miss": KEPT_SECONDS}


async def test_entries_users_and_scopes_are_forgotten(log: LookupLog) -> None:
    ones = [
        lookup(1, entry_id="a"),
        lookup(2, entry_id="b", nearest_id="a"),
        lookup(3, entry_id="c", user="ann"),
    ]
    await log.add({"t": ones, "u": [lookup(1, entry_id="a")]})
    await log.forget_entries("t", ["a"])
    assert await log.read("t") == [ones[2]]
    await log.forget_user("t", "bob")
    assert await log.read("t") == [ones[2]]
    await log.forget_user("t", "ann")
    assert await log.read("t") == []
    assert len(await log.read("u")) == 1
    scoped = [lookup(1, prompt="My IBAN"), lookup(2, nearest_prompt="an iban"), lookup(3)]
    await log.add({"t": [*scoped, lookup(4, "semantic", prompt="IBAN", namespace="shop")]})
    await log.forget_scope("t", "", "", "iban")
    assert [one.prompt for one in await log.read("t")] == ["IBAN", "3?"]


async def test_fields_of_later_versions_are_ignored(log: LookupLog, redis: FakeRedis) -> None:
    await log.add({"t": [lookup(1)]})
    [member] = redis.values["p:gateway:lookups:t:miss"]
    changed = member[:-1] + b',"new":1}'
    redis.values["p:gateway:lookups:t:miss"] = {changed: 1.0}
    assert [one.prompt for one in await log.read("t")] == ["1?"]
