"""A parser process that does what a document says: a stand-in for parsers with faults.

``python -m tests.fakes.parser_worker MEMORY_BYTES``
"""

import os
import signal
import sys
import time
from collections.abc import Callable

from services.gateway.rag.ingest.parsers import worker
from services.gateway.rag.ingest.parsers.extract import Block, Extract, ParseError


def parse(media_type: str, content: bytes) -> Extract:
    """Obey the first word of a document; parse any other document into one block."""
    command, _, argument = content.decode().partition(" ")
    run = _COMMANDS.get(command)
    text = run(argument) if run else content.decode()
    return Extract(text, [Block(0, len(text))], media_type)


def _loop(_: str) -> str:
    while True:
        pass


def _wait(_: str) -> str:
    time.sleep(3600)
    return ""


def _crash(_: str) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def _refuse(_: str) -> str:
    raise ParseError("BROKEN_PDF", "It is broken.")


def _raise(_: str) -> str:
    raise RecursionError("secret")


def _print(_: str) -> str:
    print("a library prints")
    return "print"


_COMMANDS: dict[str, Callable[[str], str]] = {
    "loop": _loop,
    "wait": _wait,
    "crash": _crash,
    "refuse": _refuse,
    "raise": _raise,
    "print": _print,
    "eat": lambda size: "x" * int(size),
    "environment": lambda _: " ".join(os.environ),
    "pid": lambda _: str(os.getpid()),
}


if __name__ == "__main__":
    worker.main(parse, int(sys.argv[1]))
