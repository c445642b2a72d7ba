"""Search or the gateway in a process of its own, as users run it; it can be killed and started."""

import os
import subprocess
import sys

from tests.conftest import ROOT
from tests.redis_server import free_port
from tests.stack import channel


class ServiceProcess:
    """Runs until closed; ``channel`` leads to it. Settings are variables less their prefix."""

    def __init__(self, name: str, **settings: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        given = {f"{name.upper()}_LISTEN": self.address, "LOG_LEVEL": "ERROR", **settings}
        self.http_address = given["HTTP_LISTEN"] = f"127.0.0.1:{free_port()}"
        self._environment = os.environ | {f"MEMETWIN_{key}": given[key] for key in given}
        self._words = [sys.executable, "-m", f"services.{name}"]
        self.channel = channel(self.address)
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(self._words, cwd=ROOT, env=self._environment)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.channel.close()
        self.kill()
