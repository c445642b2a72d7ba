"""Child processes of the tests. Each ends when the test run ends, whatever happens before."""

import atexit
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

_started: list[subprocess.Popen[bytes]] = []


def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    output: IO[bytes] | int | None = None,
    errors: IO[bytes] | int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process as the leader of its own process group."""
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdout=output,
        stderr=errors,
        start_new_session=True,
    )
    _started.append(process)
    return process


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def stop(process: subprocess.Popen[bytes], timeout: float = 30.0) -> None:
    """Ask a process to end; kill it and its children after ``timeout`` seconds."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout)
    kill(process)


@atexit.register
def kill_all() -> None:
    """Kill every process that is still running."""
    for process in _started:
        if process.poll() is None:
            kill(process)
