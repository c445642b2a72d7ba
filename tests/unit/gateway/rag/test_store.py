from typing import Any

from services.gateway.rag.store import CalibrationStore
from tests.fakes.redis import FakeRedis


async def test_calibrations_are_stored_by_collection_and_model() -> None:
    redis: Any = FakeRedis()
    store = CalibrationStore(redis, "test:")
    await store.put("a", "digest", {"min_score": 0.5})
    await store.put("b", "other", {"min_score": 0.1})
    assert await store.get(["b", "a"], "digest") == [None, {"min_score": 0.5}]
    assert set(redis.values) == {"test:gateway:calibration:a", "test:gateway:calibration:b"}
