"""Starts, monitors and stops processes that outlive the terminal. Files record them."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

LOG_LINES = 15


class CannotStart(Exception):
    """A process cannot start or has exited. The message says why."""


@dataclass(frozen=True)
class Process:
    """A started process. Its start time distinguishes it from a later process with the same id."""

    name: str
    pid: int
    started: str
    settings: dict[str, str]


class Processes:
    """The processes of one stack, recorded in a folder."""

    def __init__(self, state: Path) -> None:
        self._run = state / "run"
        self._logs = state / "logs"
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, command: Sequence[str], settings: Mapping[str, str], folder: Path
    ) -> Process:
        """Start a process with ``settings`` in its environment. Its output goes to its log."""
        self._run.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[name] = child
        process = Process(name, child.pid, _start_time(child.pid), dict(settings))
        write_private(self._file(name), json.dumps(asdict(process)))
        return process

    def running(self, name: str) -> Process | None:
        """Return the process with this name if it is running. Delete its record if it does not."""
        process = self._recorded(name)
        is_alive = process is not None and _start_time(process.pid) == process.started
        if name in self._children:
            self._children[name].poll()  # reaps a child that has exited
        if is_alive:
            return process
        self._file(name).unlink(missing_ok=True)
        return None

    def stop(self, name: str, timeout: float = 20.0) -> bool:
        """Terminate a process, and kill it after ``timeout`` seconds.

        Return whether it was running.
        """
        process = self.running(name)
        if process is None:
            return False
        _signal(process.pid, signal.SIGTERM)
        end = time.monotonic() + timeout
        while self.running(name) and time.monotonic() < end:
            time.sleep(0.05)
        if self.running(name):
            _signal(process.pid, signal.SIGKILL)
            while self.running(name):
                time.sleep(0.05)
        self._file(name).unlink(missing_ok=True)
        return True

    def check(self, name: str) -> None:
        """Raise CannotStart, with the end of the log, if a process has exited."""
        if self.running(name) is None:
            raise CannotStart(f"{name} has exited. The end of {self.log(name)}:\n{self.tail(name)}")

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._logs / f"{name}.log"

    def tail(self, name: str) -> str:
        """Return the last lines of the log of a process."""
        try:
            lines = self.log(name).read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return "\n".join(f"    {line}" for line in lines[-LOG_LINES:]) or "    (empty)"

    def _recorded(self, name: str) -> Process | None:
        try:
            return Process(**json.loads(self._file(name).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _file(self, name: str) -> Path:
        return self._run / f"{name}.json"


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, because it may contain a password."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(0o600)
    file.chmod(0o600)
    file.write_text(text)


def require_free(host: str, port: int, setting: str) -> None:
    """Raise CannotStart if a port is taken.

    The message names the process that listens on it and the setting that changes the port.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            listener = _listener(port)
            raise CannotStart(
                f"Port {port} is in use{f' by {listener}' if listener else ''}."
                f" Free it or set {setting} to another address."
            ) from error


def _start_time(pid: int) -> str:
    """Return the start time of a process in clock ticks since boot; empty if it has exited."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _start_time_without_proc(pid)
    return "" if fields[0] == "Z" else fields[19]


def _start_time_without_proc(pid: int) -> str:
    done = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _listener(port: int) -> str:
    """Return the process that listens on a port, if /proc shows it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:  # 0A: LISTEN
                inodes.add(f"socket:[{columns[9]}]")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in inodes for link in (folder / "fd").iterdir()):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                return f"process {folder.name}, {command.strip()[:80]}"
        except OSError:
            continue
    return ""
