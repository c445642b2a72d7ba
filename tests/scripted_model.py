"""A language model server that writes the raw bytes of scripted responses, on a real socket.

The first word of a question names its behaviour.
"""

import asyncio
import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from services.gateway.app.server import listen

Json = dict[str, Any]


class Script(Protocol):
    """Writes the responses of a behaviour."""

    def respond(self, body: Json) -> list[bytes]:
        """Return the bytes of a response, in the parts in which they are sent."""
        ...


class ScriptedModel:
    """Runs in a thread. The connection is closed after each response.

    Attributes:
        url: the base URL.
        calls: how often each question has been asked.
    """

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self._scripts = scripts
        self.calls: Counter[str] = Counter()
        self._released: dict[str, asyncio.Event] = {}
        self._socket = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def hold(self, question: str) -> None:
        """Answer a question only after its release."""
        self._released[question] = asyncio.Event()

    def release(self, question: str) -> None:
        self._loop.call_soon_threadsafe(self._released.pop(question).set)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._answer, sock=self._socket):
            await self._stop.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = json.loads(await reader.readexactly(int(length[1]))) if length else {}
            question = str(body["messages"][-1]["content"])
            self.calls[question] += 1
            if held := self._released.get(question):
                await held.wait()
            for part in self._scripts[question.partition(" ")[0]].respond(body):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()


@contextlib.contextmanager
def running(scripts: Mapping[str, Script]) -> Iterator[ScriptedModel]:
    server = ScriptedModel(scripts)
    try:
        yield server
    finally:
        server.close()


def http(
    status: int, body: bytes, headers: Mapping[str, str] | None = None, *, length: int | None = None
) -> bytes:
    """Return a response with ``Content-Length``, which may be wrong."""
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {length or len(body)}"]
    lines += ["Connection: close", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, headers: Mapping[str, str], step: int) -> list[bytes]:
    """Return a streamed response in steps of a few bytes."""
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    pieces = [body[start : start + step] for start in range(0, len(body), step)]
    parts = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return ["\r\n".join([*lines, "", ""]).encode(), *parts, b"0\r\n\r\n"]
