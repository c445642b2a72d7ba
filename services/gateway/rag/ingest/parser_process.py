"""Runs one parser process, which can be killed, and speaks with it through pipes."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass

from services.errors import Unavailable
from services.gateway.rag.ingest.parsers import frames
from services.gateway.rag.ingest.parsers.extract import Extract, ParseError

WORKER = "services.gateway.rag.ingest.parsers.worker"
_BUFFER_BYTES = 2**20
_EXIT_SECONDS = 2.0
# Failures that may be caused by a lack of memory, in whatever way a library reports it.
_LIMITS = ("PARSER_OUT_OF_MEMORY", "PARSER_FAILED")
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

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader, self._writer = reader, writer

    @classmethod
    async def start(cls, memory: int, worker: str = WORKER) -> "ParserProcess":
        """Start a process that may use ``memory`` bytes. Raises Unavailable if that fails."""
        try:
            ours, its = socket.socketpair()
            with its:
                reader, writer = await asyncio.open_connection(sock=ours, limit=_BUFFER_BYTES)
                try:
                    return cls(_spawn(its, memory, worker), reader, writer)
                except OSError:
                    writer.close()
                    raise
        except OSError as error:
            raise Unavailable(
                "PARSER_UNAVAILABLE", "No parser can be started. Retry later.", retry_after=1.0
            ) from error

    @property
    def alive(self) -> bool:
        """Whether the process can parse another document."""
        return not self._writer.is_closing() and self._process.poll() is None

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
            if error.reason not in _LIMITS:
                raise
            await self.end()
            raise LimitExceeded(error.reason, error.message) from None
        except TimeoutError:
            await self.end()
            raise _timed_out() from None
        except (EOFError, ConnectionError, ValueError):
            raise await self._ended() from None
        except asyncio.CancelledError:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._writer.close()

    async def end(self) -> None:
        """Kill the process and wait for its end."""
        self.kill()
        await asyncio.to_thread(self._process.wait)

    async def _exchange(self, job: Job) -> Extract:
        request = {"media_type": job.media_type, "cpu_seconds": job.cpu_seconds}
        self._writer.write(frames.json_frame(frames.REQUEST, request))
        self._writer.write(frames.HEADER.pack(frames.CONTENT, len(job.content)))
        self._writer.write(job.content)
        await self._writer.drain()
        reader = frames.ExtractReader()
        while True:
            kind, length = frames.HEADER.unpack(await self._reader.readexactly(frames.HEADER.size))
            if length > frames.MAX_FRAME_BYTES:
                raise ValueError("the frame is too long")
            if extract := reader.read(kind, await self._reader.readexactly(length)):
                return extract

    async def _ended(self) -> LimitExceeded:
        """End a process that has stopped responding or broken the protocol; return the reason."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, _EXIT_SECONDS)
        await self.end()
        if self._process.returncode == -signal.SIGXCPU:
            return _timed_out()
        return LimitExceeded(
            "PARSER_CRASHED",
            "The parser crashed on the document, or ran out of memory. Export or split it.",
        )


def _spawn(connection: socket.socket, memory: int, worker: str) -> "subprocess.Popen[bytes]":
    """Start a process that reads and writes a socket.

    The process gets the import path and no other environment variables, because they hold secrets.
    ``Popen`` uses vfork. The event loop would use fork, which runs the fork handlers of gRPC.
    """
    return subprocess.Popen(  # noqa: S603 - fixed arguments
        [sys.executable, "-m", worker, str(memory)],
        stdin=connection.fileno(),
        stdout=connection.fileno(),
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def _timed_out() -> LimitExceeded:
    return LimitExceeded(
        "PARSER_TIMEOUT", "Parsing the document takes too long. Split or simplify it."
    )
