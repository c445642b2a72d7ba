from typing import Any

import numpy as np
import pytest

from services.errors import FailedPrecondition, InvalidArgument
from services.search.engines.catalog import Catalog
from services.search.recall_measurement import Experiment, IndexSetting, Measurement
from services.search.service import SearchService
from services.search.tuning import _kth_distance, recommend, tune
from tests.fakes.search import collection, document, vector
from tests.fakes.search_redis import VectorRedis

SETTINGS = [IndexSetting(8, 50, 0, "none"), IndexSetting(16, 50, 0, "q8")]


def measurement(recall: float, p50: float, memory: int) -> Measurement:
    return Measurement(IndexSetting(16, 200, 100, "none"), recall, p50, p50, 1.0, memory)


def test_the_fastest_good_setting_is_recommended_and_of_equally_fast_ones_the_smallest() -> None:
    fast, small = measurement(0.96, 1.0, 100), measurement(0.97, 1.05, 50)
    poor = measurement(0.8, 0.1, 1)
    assert recommend([fast, small, poor], 0.95) == small
    assert recommend([fast, measurement(0.97, 1.2, 50)], 0.95) == fast
    assert recommend([poor], 0.95) is None
    assert recommend([], 0.95) is None


def test_the_distance_of_the_kth_neighbour_has_a_tolerance() -> None:
    stored = np.stack([vector(at, 0) for at in (4, 1, 3, 2)])
    distance = _kth_distance("l2", vector(0, 0), stored, 2)
    assert distance == pytest.approx(2.0, abs=1e-5)
    assert distance > 2.0
    assert _kth_distance("l2", vector(0, 0), stored, 10) == pytest.approx(4.0, abs=1e-5)


async def fill(service: SearchService, count: int = 60, **options: Any) -> None:
    created = (await service.create(collection(**options))).collection
    rows = [document(f"d{at:03}", 1 + at % 7, at / 10) for at in range(count)]
    await service.upsert(created, rows)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
async def test_every_setting_is_measured_and_nothing_stays(
    service: SearchService, redis: VectorRedis, metric: str
) -> None:
    await fill(service, metric=metric, fields={"n": "number"})
    experiment = Experiment(documents=50, queries=10, k=3, efs=[10, 20], target_recall=0.9)
    first, last = [one async for one in tune(service, "c", SETTINGS, experiment)]
    assert (first.done, first.total, first.documents, first.recommended) == (1, 2, 50, None)
    measured = [*first.measurements, *last.measurements]
    assert [(one.setting.m, one.setting.ef_runtime) for one in measured] == [
        *((8, 10), (8, 20), (16, 10), (16, 20))
    ]
    assert all(one.recall == 1.0 for one in measured)
    assert all(one.documents_per_second > 0 and one.memory == 5000 for one in measured)
    assert last.recommended in measured
    assert await Catalog(redis, "p:").list_names("", 10) == ["c"]


async def test_the_temporary_index_is_removed_after_an_error(
    service: SearchService, redis: VectorRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(service)

    async def fail(*arguments: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(service, "search", fail)
    with pytest.raises(RuntimeError):
        await anext(tune(service, "c", SETTINGS, Experiment()))
    assert await Catalog(redis, "p:").list_names("", 10) == ["c"]


async def test_tuning_needs_documents_and_settings(service: SearchService) -> None:
    await fill(service, 4)
    with pytest.raises(FailedPrecondition) as caught:
        await anext(tune(service, "c", SETTINGS, Experiment()))
    assert caught.value.reason == "TOO_FEW_DOCUMENTS"
    for settings in ([], SETTINGS * 33):
        with pytest.raises(InvalidArgument):
            await anext(tune(service, "c", settings, Experiment()))
