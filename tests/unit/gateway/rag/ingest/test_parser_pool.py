import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.errors import InvalidArgument
from services.gateway.rag.ingest import parser_pool
from services.gateway.rag.ingest.parser_pool import Lane, ParserPool
from services.gateway.rag.ingest.parsers.extract import Extract

MIB = 2**20
QUICK = Lane(processes=1, memory=32 * MIB, cpu_seconds=0.5, max_bytes=1000)
SLOW = Lane(processes=1, memory=128 * MIB, cpu_seconds=0.5, reuse=False)


@pytest.fixture
async def pool() -> AsyncIterator[ParserPool]:
    one = ParserPool(QUICK, SLOW, "tests.fakes.parser_worker")
    yield one
    await one.close()


async def reason(pool: ParserPool, content: bytes, caller: str = "bad") -> str:
    with pytest.raises(InvalidArgument) as caught:
        await pool.parse(caller, "text/plain", content)
    assert caught.value.field == "content"
    return caught.value.reason


async def pid(pool: ParserPool) -> str:
    return (await pool.parse("caller", "text/plain", b"pid")).text


async def test_small_documents_share_a_process(pool: ParserPool) -> None:
    assert await pid(pool) == await pid(pool)
    assert await reason(pool, b"refuse") == "BROKEN_PDF"
    assert await pid(pool) == await pid(pool)


async def test_a_large_document_has_a_process_of_its_own(pool: ParserPool) -> None:
    small = await pid(pool)
    large = [await pool.parse("caller", "text/plain", b"pid " + bytes(1000)) for _ in range(2)]
    assert len({small, *(one.text for one in large)}) == 3


async def test_a_document_that_the_quick_lane_cannot_parse_gets_more(pool: ParserPool) -> None:
    extract = await pool.parse("caller", "text/plain", b"eat %d" % (24 * MIB))
    assert len(extract.text) == 24 * MIB


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"loop", "PARSER_TIMEOUT"),
        (b"eat 1000000000", "PARSER_OUT_OF_MEMORY"),
        (b"crash", "PARSER_CRASHED"),
    ],
)
async def test_a_document_over_all_limits_fails_alone(
    pool: ParserPool, content: bytes, expected: str
) -> None:
    before = await pid(pool)
    assert await reason(pool, content) == expected
    assert await pid(pool) != before


async def test_good_documents_pass_bad_ones(pool: ParserPool) -> None:
    """Six documents that never end, and then one of another caller."""
    bad = [asyncio.create_task(reason(pool, b"loop")) for _ in range(6)]
    await asyncio.sleep(0)
    good = await pool.parse("good", "text/plain", b"good")
    assert good.text == "good"
    assert sum(task.done() for task in bad) <= 1
    for task in bad:
        task.cancel()
    await asyncio.gather(*bad, return_exceptions=True)


async def test_a_caller_who_leaves_frees_the_lane(pool: ParserPool) -> None:
    waiting = asyncio.create_task(pool.parse("a", "text/plain", b"wait"))
    await asyncio.sleep(0)
    waiting.cancel()
    assert (await pool.parse("b", "text/plain", b"good")).text == "good"


async def test_an_idle_process_ends(pool: ParserPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser_pool, "IDLE_SECONDS", 0.0)
    before = await pid(pool)
    for _ in range(3):
        await asyncio.sleep(0)
    assert await pid(pool) != before


async def test_real_parsers_are_behind_it() -> None:
    pool = ParserPool(replace(QUICK, memory=parser_pool.QUICK.memory))
    extract = await pool.parse("caller", "text/markdown", b"---\nyear: 2000\n---\n# Doors\n")
    await pool.close()
    assert extract.fields == {"year": 2000.0}
    assert isinstance(extract, Extract)
    assert extract.title == "Doors"
