"""Search or the gateway in its own process; a test can kill and restart it."""

import os
import sys
from collections.abc import Sequence

from tests import processes
from tests.conftest import ROOT
from tests.ports import reserve_port
from tests.stack import channel


class ServiceProcess:
    """Runs until closed; ``channel`` leads to it.

    Settings are variable names without ``MEMETWIN_``. ``launcher`` are the arguments of Python
    before the name of the service's module.
    """

    def __init__(self, name: str, *, launcher: Sequence[str] = ("-m",), **settings: str) -> None:
        self.address = f"127.0.0.1:{reserve_port()}"
        self.http_address = f"127.0.0.1:{reserve_port()}"
        variables = {
            f"{name.upper()}_LISTEN": self.address,
            "LOG_LEVEL": "ERROR",
            **settings,
            "HTTP_LISTEN": self.http_address,
        }
        self._environment = os.environ | {f"MEMETWIN_{key}": variables[key] for key in variables}
        self._command = [sys.executable, *launcher, f"services.{name}"]
        self.channel = channel(self.address)
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        self._process = processes.start(self._command, environment=self._environment, folder=ROOT)

    def kill(self) -> None:
        processes.kill(self._process)

    def close(self) -> None:
        self.channel.close()
        self.kill()
