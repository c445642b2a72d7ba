import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from services.errors import Unavailable
from services.gateway.rag.ingest import parser_process
from services.gateway.rag.ingest.parser_process import Job, LimitExceeded, ParserProcess
from services.gateway.rag.ingest.parsers.extract import Block, ParseError

MEMORY = 64 * 2**20
FAULTY = "tests.fakes.parser_worker"


def job(content: bytes, cpu_seconds: float = 60.0) -> Job:
    return Job("text/plain", content, cpu_seconds)


@pytest.fixture
async def process() -> AsyncIterator[ParserProcess]:
    one = await ParserProcess.start(MEMORY, FAULTY)
    yield one
    await one.end()


async def test_documents_are_parsed_one_after_the_other(process: ParserProcess) -> None:
    pids = {(await process.parse(job(b"pid"))).text for _ in range(3)}
    assert len(pids) == 1
    extract = await process.parse(job("é🐈".encode()))
    assert (extract.text, extract.blocks, extract.title) == ("é🐈", [Block(0, 2)], "text/plain")


async def test_a_document_of_megabytes_passes_both_ways(process: ParserProcess) -> None:
    text = "é🐈." * 2**20
    assert (await process.parse(job(text.encode()))).text == text


async def test_a_document_that_is_not_valid_leaves_the_process_alive(
    process: ParserProcess,
) -> None:
    with pytest.raises(ParseError) as caught:
        await process.parse(job(b"refuse"))
    assert (caught.value.reason, caught.value.message) == ("BROKEN_PDF", "It is broken.")
    assert process.alive
    assert (await process.parse(job(b"print"))).text == "print"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"loop", "PARSER_TIMEOUT"),
        (b"eat 1000000000", "PARSER_OUT_OF_MEMORY"),
        (b"crash", "PARSER_CRASHED"),
        (b"raise", "PARSER_FAILED"),
    ],
)
async def test_a_document_over_a_limit_ends_the_process(
    process: ParserProcess, content: bytes, reason: str
) -> None:
    with pytest.raises(LimitExceeded) as caught:
        await process.parse(job(content, cpu_seconds=1.0))
    assert caught.value.reason == reason
    assert "secret" not in caught.value.message
    assert not process.alive


async def test_the_processor_time_counts_anew_for_each_document(process: ParserProcess) -> None:
    for _ in range(3):
        assert (await process.parse(job(b"x" * 2**20, cpu_seconds=1.0))).blocks
    assert process.alive


async def test_a_document_that_waits_ends_too(
    process: ParserProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser_process, "_WALL_EXTRA_SECONDS", 0.05)
    with pytest.raises(LimitExceeded) as caught:
        await process.parse(job(b"wait", cpu_seconds=0.0))
    assert caught.value.reason == "PARSER_TIMEOUT"
    assert not process.alive


async def test_the_process_ends_when_its_caller_leaves(process: ParserProcess) -> None:
    parsing = asyncio.create_task(process.parse(job(b"wait")))
    await asyncio.sleep(0)
    parsing.cancel()
    await asyncio.gather(parsing, return_exceptions=True)
    assert not process.alive


async def test_the_process_has_no_secrets_in_its_environment(
    process: ParserProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMETWIN_LLM_API_KEY", "secret")
    another = await ParserProcess.start(MEMORY, FAULTY)
    names = (await another.parse(job(b"environment"))).text.split()
    await another.end()
    assert set(names) <= {"PYTHONPATH", "LC_CTYPE"}


async def test_a_process_that_cannot_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(Unavailable) as caught:
        await ParserProcess.start(MEMORY)
    assert caught.value.reason == "PARSER_UNAVAILABLE"


async def test_a_worker_that_speaks_nonsense_is_killed() -> None:
    nonsense = await ParserProcess.start(MEMORY, "this")  # which prints the Zen of Python
    with pytest.raises(LimitExceeded) as caught:
        await nonsense.parse(job(b"x"))
    assert caught.value.reason == "PARSER_CRASHED"
    assert not nonsense.alive
