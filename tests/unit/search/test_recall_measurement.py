from typing import Any

import pytest

from services.errors import FailedPrecondition, InvalidArgument, NotFound
from services.search.recall_measurement import (
    Experiment,
    IndexSetting,
    measure_recall,
    summarise,
)
from services.search.service import SearchService
from services.search.types import Query, Result
from tests.fakes.search import collection, document
from tests.fakes.search_redis import VectorRedis

SETTING = IndexSetting(16, 200, 100, "none")


async def fill(service: SearchService) -> None:
    created = (await service.create(collection())).collection
    await service.upsert(created, [document(f"d{at:02}", 1, at / 10) for at in range(50)])


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"k": 101},
        {"queries": 10_001},
        {"documents": 100_001},
        {"efs": [0]},
        {"target_recall": 0.0},
        {"target_recall": 1.1},
        {"target_recall": float("nan")},
    ],
)
def test_experiments_are_checked(options: dict[str, Any]) -> None:
    Experiment().check()
    with pytest.raises(InvalidArgument):
        Experiment(**options).check()


async def test_recall_is_measured_at_every_ef(service: SearchService, redis: VectorRedis) -> None:
    await fill(service)
    experiment = Experiment(k=5, queries=45, efs=[10, 20])
    *progress, last = [one async for one in measure_recall(service, "c", experiment)]
    assert [(one.done, one.total) for one in progress] == [(20, 45), (40, 45)]
    assert [one.recall for one in last.measurements] == [1.0, 1.0]
    assert [one.setting.ef_runtime for one in last.measurements] == [10, 20]
    assert last.measurements[0].memory == 50 * 100
    assert last.exact_p50 > 0


async def test_missed_neighbours_lower_the_recall(
    service: SearchService, redis: VectorRedis
) -> None:
    await fill(service)
    redis.unreachable = {b"d%02d" % at for at in range(0, 50, 2)}
    experiment = Experiment(k=5, queries=50, efs=())
    [*_, last] = [one async for one in measure_recall(service, "c", experiment)]
    [measurement] = last.measurements
    assert 0.3 < measurement.recall < 0.7
    assert measurement.setting.ef_runtime == 200


async def test_documents_deleted_meanwhile_are_skipped(
    service: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(service)
    search = service.search

    async def search_without_d00(queries: list[Query]) -> list[Result]:
        if queries[0].document_id == "d00":
            raise NotFound("DOCUMENT_NOT_FOUND", "")
        return await search(queries)

    monkeypatch.setattr(service, "search", search_without_d00)
    experiment = Experiment(k=5, queries=50, efs=[10])
    [*_, last] = [one async for one in measure_recall(service, "c", experiment)]
    assert last.measurements[0].recall == 1.0


async def test_an_empty_collection_cannot_be_measured(service: SearchService) -> None:
    await service.create(collection())
    with pytest.raises(FailedPrecondition) as caught:
        await anext(measure_recall(service, "c", Experiment()))
    assert caught.value.reason == "EMPTY_COLLECTION"


def test_measurements_are_summarised() -> None:
    one = summarise(SETTING, [1.0, 0.5], [0.1, 0.2, 0.3], memory=7, documents_per_second=9.0)
    assert (one.recall, one.p50, one.memory, one.documents_per_second) == (0.75, 0.2, 7, 9.0)
    assert one.p99 == pytest.approx(0.298)
    assert summarise(SETTING, [], [], memory=0).recall == 0.0
