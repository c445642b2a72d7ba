"""A Redis of the tests' own, from what deploy/local finds; it can be killed and started again."""

import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import redis

from deploy.local.__main__ import STATE
from deploy.local.redis import Choice, arguments, choose


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


class RedisServer:
    """A redis-server process on a free port, its data in a folder."""

    def __init__(self, folder: Path) -> None:
        found = choose(STATE, "")
        self.url = f"redis://127.0.0.1:{free_port()}"
        self._choice = Choice(found.kind, self.url, "", "", found.command)
        self._folder = folder
        self.start()

    def start(self) -> None:
        words = arguments(self._choice, self._folder)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        end = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.RedisError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def client(self) -> Any:
        return redis.Redis.from_url(self.url, socket_timeout=5)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
