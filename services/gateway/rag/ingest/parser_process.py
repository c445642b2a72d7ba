"""Runs one parser process, which can be killed, and communicates with it through pipes."""

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass

from services.errors import Unavailable
from services.gateway.rag.ingest.parsers import frames
from services.gateway.rag.ingest.parsers.extract import OUT_OF_MEMORY, Extract, ParseError

WORKER = "services.gateway.rag.ingest.parsers.worker"
_BUFFER_BYTES = 2**20
_EXIT_SECONDS = 2.0
_WALL_PER_CPU_SECOND = 5.0
_WALL_EXTRA_SECONDS = 10.0


class LimitExceeded(ParseError):
    """The document has exceeded a limit of the process, or has crashed it."""


@dataclass(frozen=True)
class Job:
    """A document to parse, and the processor time that it may take, in seconds."""

    media_type: str
    content: bytes
    cpu_seconds: float

    @property
    def wall_seconds(self) -> float:
        """The time that it may take on a busy machine."""
        return _WALL_EXTRA_SECONDS + _WALL_PER_CPU_SECOND * self.cpu_seconds


class ParserProcess:
    """A parser process. It parses one document at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._killed = False

    @classmethod
    async def start(cls, memory: int, worker: str = WORKER) -> "ParserProcess":
        """Start a process that may use ``memory`` bytes. Raises Unavailable if that fails.

        The process gets the import path and no other environment variables, because they hold
        secrets.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", worker, str(memory)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={"PYTHONPATH": os.pathsep.join(sys.path)},
                limit=_BUFFER_BYTES,
                start_new_session=True,  # a terminal's Ctrl-C is for the gateway
            )
        except OSError as error:
            raise Unavailable(
                "PARSER_UNAVAILABLE", "No parser can be started. Retry later.", retry_after=1.0
            ) from error
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether the process can parse another document."""
        return self._process.returncode is None and not self._killed

    async def parse(self, job: Job) -> Extract:
        """Parse a document. Kill the process if the document exceeds a limit or the caller leaves.

        Raises:
            LimitExceeded: the document needs too much time or memory, or crashes the process.
            ParseError: the document is not valid; the process can parse the next one.
        """
        try:
            async with asyncio.timeout(job.wall_seconds):
                return await self._exchange(job)
        except ParseError as error:
            if error.reason != OUT_OF_MEMORY:
                raise
            await self.end()
            raise LimitExceeded(error.reason, error.message) from None
        except TimeoutError:
            await self.end()
            raise _timed_out() from None
        except (EOFError, ConnectionError, RuntimeError, ValueError):  # uvloop: RuntimeError
            raise await self._ended() from None
        except asyncio.CancelledError:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the process."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Kill the process and wait for its end."""
        self.kill()
        await self._process.wait()

    async def _exchange(self, job: Job) -> Extract:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise EOFError  # cannot happen, because the process has pipes
        request = {"media_type": job.media_type, "cpu_seconds": job.cpu_seconds}
        stdin.write(frames.json_frame(frames.REQUEST, request))
        stdin.write(frames.HEADER.pack(frames.CONTENT, len(job.content)))
        stdin.write(job.content)
        await stdin.drain()
        reader = frames.ExtractReader()
        while True:
            kind, length = frames.HEADER.unpack(await stdout.readexactly(frames.HEADER.size))
            if length > frames.MAX_FRAME_BYTES:
                raise ValueError("the frame is too long")
            if extract := reader.read(kind, await stdout.readexactly(length)):
                return extract

    async def _ended(self) -> LimitExceeded:
        """End the process, which has stopped responding, and return the reason."""
        # kill() would compete with asyncio for the exit status of a process that has ended.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_SECONDS):
                await self._process.wait()
        if self.alive:
            await self.end()
        if self._process.returncode == -signal.SIGXCPU:
            return _timed_out()
        return LimitExceeded(
            "PARSER_CRASHED",
            "The parser crashed on the document, or ran out of memory. Export or split it.",
        )


def _timed_out() -> LimitExceeded:
    return LimitExceeded(
        "PARSER_TIMEOUT", "Parsing the document takes too long. Split or simplify it."
    )
