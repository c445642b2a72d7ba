"""Records the commands that a Redis receives, and sends them again."""

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import redis

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')
_END = "memetwin-bench-end"


@contextlib.contextmanager
def watched(client: Any) -> Iterator[list[list[bytes]]]:
    """Collect the commands that clients send during the block, without those of scripts."""
    commands: list[list[bytes]] = []
    options = client.connection_pool.connection_kwargs
    kind: Any = redis.Connection
    connection = kind(host=options["host"], port=options["port"])
    connection.connect()
    connection.send_command("MONITOR")
    connection.read_response()

    def read() -> None:
        while True:
            line = connection.read_response().decode("latin-1")
            if _END in line:
                return
            head, _, words = line.partition("] ")
            if not head.endswith("lua"):
                commands.append([_bytes(word) for word in _WORD.findall(words)])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield commands
    finally:
        client.echo(_END)
        reader.join(10)
        connection.disconnect()
        commands[:] = [one for one in commands if one[0].upper() not in (b"PING", b"INFO")]


def replayed(client: Any, commands: list[list[bytes]]) -> float:
    """Send commands again in one pipeline; return how many seconds it took."""
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    started = time.perf_counter()
    pipe.execute(raise_on_error=False)
    return time.perf_counter() - started


def _bytes(word: str) -> bytes:
    return word.encode("latin-1").decode("unicode_escape").encode("latin-1")
