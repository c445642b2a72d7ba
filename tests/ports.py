"""Ports for processes that cannot bind to port 0 because others must know their port beforehand."""

import fcntl
import os
import socket
import tempfile
from pathlib import Path

_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOCKS = Path(tempfile.gettempdir()) / f"memetwin-test-ports-{os.getuid()}"
_held: list[int] = []


def reserve_port() -> int:
    """Return a free port on loopback that stays reserved until this process ends.

    The port lies below the range that the kernel gives to outgoing connections, and a lock file
    keeps other test processes away from it. A server may therefore stop and start on it again.
    """
    _LOCKS.mkdir(exist_ok=True)
    first = _first_ephemeral_port()
    for port in range(first - 12_000, first):
        if _lock(port) and _is_free(port):
            return port
    raise RuntimeError("no port is free for a test")


def _first_ephemeral_port() -> int:
    try:
        return max(14_000, int(_RANGE_FILE.read_text().split()[0]))
    except OSError:
        return 32_768


def _lock(port: int) -> bool:
    descriptor = os.open(_LOCKS / str(port), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    _held.append(descriptor)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
