"""A Redis for the tests, found as ``deploy.local`` finds it; it can be killed and restarted."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import redis

from deploy.local.__main__ import STATE
from deploy.local.redis import RedisChoice, choose, command_line
from tests import processes
from tests.ports import reserve_port


class RedisServer:
    """A redis-server process with its data in a folder.

    It accepts connections once it is constructed.
    """

    def __init__(self, folder: Path) -> None:
        found = choose(STATE, "")
        self.url = f"redis://127.0.0.1:{reserve_port()}"
        self._choice = RedisChoice(found.kind, self.url, "", "", found.command)
        self._folder = folder
        self.start()

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = processes.start(
                command_line(self._choice, self._folder), output=log, errors=log
            )
        end = time.monotonic() + 60
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.RedisError:
                if time.monotonic() > end or self._process.poll() is not None:
                    processes.kill(self._process)
                    raise
                time.sleep(0.02)

    def client(self) -> Any:
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def pause(self) -> None:
        """Stop answering, without closing connections."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        processes.kill(self._process)

    def stop(self) -> None:
        processes.stop(self._process)
