"""Starts, watches and stops processes that outlive the terminal; remembers them in files."""

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
    """A process cannot be started, or has died; the message says why."""


@dataclass(frozen=True)
class Process:
    """A process we started: its start time tells it from a later one of the same number."""

    name: str
    pid: int
    started: str
    settings: dict[str, str]


class Processes:
    """The processes of one stack, remembered under a folder."""

    def __init__(self, state: Path) -> None:
        self._run = state / "run"
        self._logs = state / "logs"
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, words: Sequence[str], settings: Mapping[str, str], folder: Path
    ) -> Process:
        """Start a process with ``settings`` in its environment; its output goes to its log."""
        self._run.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                words,
                cwd=folder,
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[name] = child
        process = Process(name, child.pid, _start_time(child.pid), dict(settings))
        self._file(name).write_text(json.dumps(asdict(process)))
        return process

    def running(self, name: str) -> Process | None:
        """Return the process of this name if it still runs; forget it if it does not."""
        if name in self._children:
            self._children[name].poll()  # a child that has ended stays a zombie until asked
        try:
            process = Process(**json.loads(self._file(name).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        if _start_time(process.pid) == process.started:
            return process
        self._file(name).unlink(missing_ok=True)
        return None

    def stop(self, name: str, seconds: float = 20.0) -> bool:
        """Ask a process to end, wait, and kill it if it will not; return whether it ran."""
        process = self.running(name)
        if process is None:
            return False
        _signal(process.pid, signal.SIGTERM)
        end = time.monotonic() + seconds
        while self.running(name) and time.monotonic() < end:
            time.sleep(0.05)
        if self.running(name):
            _signal(process.pid, signal.SIGKILL)
            time.sleep(0.2)
        self._file(name).unlink(missing_ok=True)
        return True

    def check(self, name: str) -> None:
        """Raise CannotStart, with the end of its log, if a process has died."""
        if self.running(name) is None:
            raise CannotStart(f"{name} has died. The end of {self.log(name)}:\n{self.tail(name)}")

    def log(self, name: str) -> Path:
        """Return the log of a process."""
        return self._logs / f"{name}.log"

    def tail(self, name: str) -> str:
        """Return the last lines of a process' log."""
        try:
            lines = self.log(name).read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return "\n".join(f"    {line}" for line in lines[-LOG_LINES:]) or "    (empty)"

    def _file(self, name: str) -> Path:
        return self._run / f"{name}.json"


def require_free(host: str, port: int, setting: str) -> None:
    """Raise CannotStart if a port is taken, naming the setting that changes it and who holds it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            holder = _holder(port)
            raise CannotStart(
                f"Port {port} is busy{f' ({holder})' if holder else ''}:"
                f" free it, or set {setting} to another."
            ) from error


def _start_time(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; empty if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _start_time_without_proc(pid)
    return "" if fields[0] == "Z" else fields[19]


def _start_time_without_proc(pid: int) -> str:
    told = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _holder(port: int) -> str:
    """Return who listens on a port, if /proc tells."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            words = row.split()
            if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{words[9]}]")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) in inodes for link in (folder / "fd").iterdir()):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                return f"process {folder.name}, {command.strip()[:80]}"
        except OSError:
            continue
    return ""
