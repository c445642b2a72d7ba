import json
from dataclasses import replace

import pytest

from services.gateway.cache.error_budget import store as module
from services.gateway.cache.error_budget.store import ObservationStore
from services.gateway.cache.error_budget.types import Observation
from services.gateway.cache.types import CandidateFeatures
from tests.fakes.redis import FakeRedis

ONE = Observation(CandidateFeatures("answer", (1.0, 2.5)), True, False, 3.0, 0.75, "found")


def store(redis: FakeRedis) -> ObservationStore:
    return ObservationStore(redis, "p:")  # type: ignore[arg-type]


async def test_observations_are_read_after_a_stream_id() -> None:
    observations = store(FakeRedis())
    other = replace(ONE, correct=False)
    first = await observations.append("t", ONE)
    second = await observations.append("t", other)
    assert await observations.read_after("t", "") == ([ONE, other], second)
    assert await observations.read_after("t", first) == ([other], second)
    assert await observations.read_after("t", second) == ([], second)
    assert await observations.read_after("u", "") == ([], "")


async def test_the_records_keep_the_names_of_live_data() -> None:
    redis = FakeRedis()
    await store(redis).append("t", ONE)
    [(_, fields)] = redis.values["p:gateway:observations:t"]
    assert json.loads(fields[b"o"]) == {
        "sighting": {"answer": "answer", "signs": [1.0, 2.5]},
        "right": True,
        "served": False,
        "weight": 3.0,
        "probability": 0.75,
        "found": "found",
    }


async def test_the_latest_observations_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OBSERVATIONS", 2)
    observations = store(FakeRedis())
    for weight in (1.0, 2.0, 3.0):
        await observations.append("t", replace(ONE, weight=weight))
    latest, _ = await observations.read_after("t", "")
    assert [one.weight for one in latest] == [2, 3]
