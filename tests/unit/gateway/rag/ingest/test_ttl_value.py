import asyncio

import pytest

from services.errors import Unavailable
from services.gateway.rag.ingest.ttl_value import TTL, TtlValue


class Counter:
    """Loads 1, then 2, and so on. ``now`` is the time of its clock."""

    def __init__(self) -> None:
        self.loads = 0
        self.now = 100.0

    async def load(self) -> int:
        self.loads += 1
        await asyncio.sleep(0)
        return self.loads

    def clock(self) -> float:
        return self.now


async def test_concurrent_callers_share_one_load() -> None:
    counter = Counter()
    value: TtlValue[int] = TtlValue(counter.clock)
    assert await asyncio.gather(*(value.get(counter.load) for _ in range(9))) == [1] * 9


async def test_a_value_is_loaded_again_once_expired_or_invalidated() -> None:
    counter = Counter()
    value: TtlValue[int] = TtlValue(counter.clock)
    assert await value.get(counter.load) == 1
    counter.now += TTL
    assert await value.get(counter.load) == 1
    counter.now += 0.01
    assert await value.get(counter.load) == 2
    value.invalidate()
    assert await value.get(counter.load) == 3


async def test_a_failed_load_is_repeated() -> None:
    async def fail() -> int:
        raise Unavailable("UNAVAILABLE", "It is unavailable.")

    counter = Counter()
    value: TtlValue[int] = TtlValue(counter.clock)
    with pytest.raises(Unavailable):
        await value.get(fail)
    assert await value.get(counter.load) == 1
