from typing import Any

import pytest

from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.ingest.types import DocumentCollection
from services.gateway.rag.store import CalibrationStore
from services.gateway.tenants import Tenant
from tests.fakes.redis import FakeRedis
from tests.fakes.slots import TENANTS, SlotRedis


async def test_calibrations_are_stored_by_collection_and_model() -> None:
    redis: Any = FakeRedis()
    store = CalibrationStore(redis, "test:", DocumentStore(redis, "test:"))
    await store.put(DocumentCollection("a"), "digest", {"min_score": 0.5})
    await store.put(DocumentCollection("b"), "other", {"min_score": 0.1})
    assert await store.get([DocumentCollection("b"), DocumentCollection("a")], "digest") == [
        None,
        {"min_score": 0.5},
    ]
    assert {key for key in redis.values if "calibration" in key} == {
        "test:gateway:calibration:{/a}",
        "test:gateway:calibration:{/b}",
    }


async def test_a_calibration_and_its_epoch_are_one_transaction() -> None:
    redis: Any = FakeRedis()
    documents = DocumentStore(redis, "test:")
    transactions: list[bool] = []
    pipeline = redis.pipeline

    def watched(*, transaction: bool) -> Any:
        transactions.append(transaction)
        return pipeline(transaction=transaction)

    redis.pipeline = watched
    await CalibrationStore(redis, "test:", documents).put(
        DocumentCollection("a"), "digest", {"min_score": 0.5}
    )
    assert transactions == [True]
    assert await documents.epochs([DocumentCollection("a"), DocumentCollection("b")]) == [1, 0]


@pytest.mark.parametrize("tenant", TENANTS)
async def test_a_calibration_is_in_the_slot_of_its_documents(tenant: Tenant) -> None:
    redis: Any = SlotRedis()
    store = CalibrationStore(redis, "p:", DocumentStore(redis, "p:"))
    await store.put(DocumentCollection("c", tenant), "digest", {})
    redis.check()
