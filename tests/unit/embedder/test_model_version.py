import asyncio

import pytest

from services.embedder.int8_scales import Int8Scales
from services.embedder.model_version import ModelVersion
from services.embedder.models.model import PreparedInput
from services.embedder.readability import Readability
from tests.fakes.models import FakeModel, run_ready_tasks


@pytest.fixture
def version() -> ModelVersion:
    model = FakeModel()
    scales = Int8Scales.for_model(model, None)
    return ModelVersion(model, scales, Readability(), 1000, "fingerprint")


def workers_run(version: ModelVersion) -> bool:
    return any(worker.is_alive() for worker in version.batcher._workers)


async def test_it_computes_between_start_and_close(version: ModelVersion) -> None:
    await version.start()
    computed = await version.batcher.submit([PreparedInput(1, 1, 1, False, 1)])
    assert computed.vectors.shape == (1, 8)
    await version.close()
    assert not workers_run(version)


async def test_it_closes_after_the_last_call_that_uses_it(version: ModelVersion) -> None:
    await version.start()
    with version:
        with version:
            draining = asyncio.create_task(version.drain())
            await run_ready_tasks()
        await run_ready_tasks()
        assert not draining.done()
        assert workers_run(version)
        await version.batcher.submit([PreparedInput(1, 1, 1, False, 1)])
    await draining
    assert not workers_run(version)


async def test_it_closes_at_once_if_no_call_uses_it(version: ModelVersion) -> None:
    await version.start()
    await version.drain()
    assert not workers_run(version)


async def test_it_closes_even_if_draining_is_cancelled(version: ModelVersion) -> None:
    await version.start()
    with version:
        draining = asyncio.create_task(version.drain())
        await run_ready_tasks()
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
    assert not workers_run(version)
