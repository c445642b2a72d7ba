"""The processor's cores, and which threads come first where they are scarce."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Added to the process's niceness: what computes comes after the loop, what prepares bulk last.
COMPUTING, PREPARING_BULK = 5, 10
_NICEST = 19
_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def give_way(niceness: int = COMPUTING) -> None:
    """Let the calling thread, and those it starts, come after others.

    Calls then come in, and answers go out, while models keep every core busy; else each step of a
    call would wait for its share of a core. Only Linux knows priorities of threads.
    """
    if sys.platform == "linux":
        own = os.getpriority(os.PRIO_PROCESS, os.getpid())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(_NICEST, own + niceness))


def preparing(*, bulk: bool) -> ThreadPoolExecutor:
    """Return threads that prepare inputs, one for each core."""
    niceness = PREPARING_BULK if bulk else COMPUTING
    return ThreadPoolExecutor(cores(), "prepare", initializer=give_way, initargs=(niceness,))


def cores() -> int:
    """Return the cores that this process may use, by its affinity and its container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota, _, period = _CGROUP.read_text().partition(" ") if _CGROUP.is_file() else ("max", "", "")
    if quota != "max":
        count = min(count or 1, -(-int(quota) // int(period)))
    return max(1, count or 1)
