"""A parser process: reads documents from standard input, writes extracts to standard output.

It limits its own memory and processor time, so a document that exceeds them ends only this process.
``python -m services.gateway.rag.ingest.parsers.worker MEMORY_BYTES``
"""

import contextlib
import json
import math
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

from services.gateway.rag.ingest.parsers import files, frames
from services.gateway.rag.ingest.parsers.extract import Extract, ParseError

Parse = Callable[[str, bytes], Extract]
# openpyxl would load it if it is there, and it takes more memory than a parser has.
_NOT_LOADED: dict[str, Any] = {"numpy": None}
# Address space of the interpreter and its libraries, which a limit of the memory includes.
_BASE_BYTES = 48 * 2**20
# The gateway has priority when the processors are busy.
_NICENESS = 5


def main(parse: Parse, memory: int) -> None:
    """Parse documents until standard input ends, or until one exceeds the memory limit."""
    requests = sys.stdin.buffer
    sys.modules.update(_NOT_LOADED)
    # The output of libraries must not get into the replies.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as replies:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        os.nice(_NICENESS)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the gateway
        _limit(resource.RLIMIT_AS, memory + _BASE_BYTES)
        _limit(resource.RLIMIT_CORE, 0)
        while request := _read(requests):
            if not _answer(json.loads(request), requests, parse, replies):
                return


def _answer(request: dict[str, Any], requests: BinaryIO, parse: Parse, replies: BinaryIO) -> bool:
    """Parse one document; return whether this process can parse another one."""
    _limit_processor_time(request["cpu_seconds"])
    try:
        for frame in frames.extract_frames(parse(request["media_type"], _read(requests))):
            replies.write(frame)
    except ParseError as error:
        replies.write(frames.failure_frame(error))
    except MemoryError:
        replies.write(frames.failure_frame(_out_of_memory()))
        replies.flush()
        return False
    except Exception as error:  # the parsers' libraries may raise anything
        traceback.print_tb(error.__traceback__)  # its message may quote the document
        replies.write(frames.failure_frame(_unexpected(error)))
        replies.flush()
        return False
    replies.flush()
    return True


def _out_of_memory() -> ParseError:
    return ParseError(
        "PARSER_OUT_OF_MEMORY", "Parsing the document takes too much memory. Split or simplify it."
    )


def _unexpected(error: Exception) -> ParseError:
    return ParseError(
        "PARSER_FAILED",
        f"The parser failed on the document ({type(error).__name__}). Export or split it.",
    )


def _limit_processor_time(seconds: float) -> None:
    """Let the system kill this process after this many more seconds of processor time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(usage.ru_utime + usage.ru_stime + seconds))


def _limit(kind: int, value: int) -> None:
    """Lower a soft limit of this process, if the system has it."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses RLIMIT_AS
        resource.setrlimit(kind, (value, hard))


def _read(stream: BinaryIO) -> bytes:
    """Return the payload of the next frame, or nothing at the end of the stream."""
    header = stream.read(frames.HEADER.size)
    if len(header) < frames.HEADER.size:
        return b""
    _, length = frames.HEADER.unpack(header)
    return stream.read(length)


if __name__ == "__main__":
    main(files.parse, int(sys.argv[1]))
