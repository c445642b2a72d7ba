"""Calibrations of abstention on a real Redis."""

import asyncio
import uuid

from services.gateway import redis_store
from services.gateway.rag.ingest.store import DocumentStore
from services.gateway.rag.store import CalibrationStore
from tests.fakes.tenants import C

WRITES = 50


async def test_no_reader_sees_a_calibration_before_its_epoch(redis_url: str, prefix: str) -> None:
    writer, reader = (redis_store.connect(redis_url) for _ in range(2))
    own = f"{prefix}calibrations-{uuid.uuid4()}:"
    documents = DocumentStore(writer, own)
    store = CalibrationStore(writer, own, documents)

    async def write() -> None:
        for number in range(1, WRITES + 1):
            await store.put(C, "digest", {"number": number})

    async def read() -> tuple[int, int]:
        async with reader.pipeline(transaction=True) as pipe:
            pipe.hget(f"{own}gateway:calibration:{{/c}}", "digest")
            pipe.get(f"{own}gateway:epoch:{{/c}}")
            record, epoch = await pipe.execute()
        return (redis_store.load(record) or {"number": 0})["number"], int(epoch or 0)

    writing = asyncio.create_task(write())
    while not writing.done():
        number, epoch = await read()
        assert number == epoch
    await writing
    assert await read() == (WRITES, WRITES)
    assert await documents.epochs([C]) == [WRITES]
    await writer.aclose()
    await reader.aclose()
