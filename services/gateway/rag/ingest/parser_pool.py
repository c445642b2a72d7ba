"""Parses documents in a few processes, which callers use in turn.

A document first gets a little processor time and memory in the quick lane. That is enough for
almost all documents. Only a document that needs more, or is large, goes to the slow lane. So
documents that take long, or attack a parser, delay only each other.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass

from services.errors import InvalidArgument
from services.gateway.rag.ingest.fair_semaphore import FairSemaphore
from services.gateway.rag.ingest.parser_process import WORKER, Job, LimitExceeded, ParserProcess
from services.gateway.rag.ingest.parsers.extract import Extract, ParseError

IDLE_SECONDS = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lane:
    """The limits of a lane.

    Attributes:
        processes: the number of documents that the lane parses at once.
        memory: bytes of memory that a document may take.
        cpu_seconds: processor time that a document may take, plus
            ``cpu_seconds_per_mib`` for each MiB of it.
        max_bytes: the size of the largest document.
        reuse: whether a process parses several documents. A new process has all its memory
            available.
    """

    processes: int
    memory: int
    cpu_seconds: float
    cpu_seconds_per_mib: float = 0.0
    max_bytes: int = 2**40
    reuse: bool = True


# Together they may take 320 MiB.
QUICK = Lane(processes=2, memory=64 * 2**20, cpu_seconds=2.0, max_bytes=2**19)
SLOW = Lane(processes=1, memory=192 * 2**20, cpu_seconds=5.0, cpu_seconds_per_mib=4.0, reuse=False)


class ParserPool:
    """Parses documents in processes of two lanes. The processes start on demand."""

    def __init__(self, quick: Lane = QUICK, slow: Lane = SLOW, worker: str = WORKER) -> None:
        self._quick = _Processes(quick, worker)
        self._slow = _Processes(slow, worker)

    async def parse(self, caller: Hashable, media_type: str, content: bytes) -> Extract:
        """Parse a document.

        Args:
            caller: identifies the sender; callers take turns.
            media_type: one of ``MEDIA_TYPES``, with a ``charset`` if the sender declares it.
            content: the file.

        Raises:
            InvalidArgument: the document is not valid, or exceeds a limit of the slow lane.
            Unavailable: no process can be started.
        """
        try:
            if len(content) <= self._quick.lane.max_bytes:
                with contextlib.suppress(LimitExceeded):
                    return await self._quick.parse(caller, media_type, content)
            return await self._slow.parse(caller, media_type, content)
        except ParseError as error:
            if isinstance(error, LimitExceeded):
                _log.warning("a document exceeded the limits of its parser: %s", error.reason)
            raise InvalidArgument(error.reason, error.message, field="content") from error

    async def close(self) -> None:
        """End all processes. Their callers must have left."""
        await self._quick.close()
        await self._slow.close()


class _Processes:
    """The processes of a lane."""

    def __init__(self, lane: Lane, worker: str) -> None:
        self.lane = lane
        self._worker = worker
        self._slots = FairSemaphore(lane.processes)
        self._idle: list[ParserProcess] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._expiry: asyncio.TimerHandle | None = None

    async def parse(self, caller: Hashable, media_type: str, content: bytes) -> Extract:
        lane = self.lane
        seconds = lane.cpu_seconds + lane.cpu_seconds_per_mib * len(content) / 2**20
        async with self._slots.hold(caller=caller), self._process() as process:
            return await process.parse(Job(media_type, content, seconds))

    async def close(self) -> None:
        self._end_idle()
        await asyncio.gather(*self._ending)

    @contextlib.asynccontextmanager
    async def _process(self) -> AsyncIterator[ParserProcess]:
        process = self._idle.pop() if self._idle else None
        if process is None or not process.alive:
            process = await ParserProcess.start(self.lane.memory, self._worker)
        try:
            yield process
        finally:
            self._put_back(process)

    def _put_back(self, process: ParserProcess) -> None:
        """Keep a process for the next document, for a while."""
        if not self.lane.reuse or not process.alive:
            self._end(process)
            return
        self._idle.append(process)
        if self._expiry:
            self._expiry.cancel()
        self._expiry = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end_idle)

    def _end_idle(self) -> None:
        if self._expiry:
            self._expiry.cancel()
        while self._idle:
            self._end(self._idle.pop())

    def _end(self, process: ParserProcess) -> None:
        task = asyncio.create_task(process.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
