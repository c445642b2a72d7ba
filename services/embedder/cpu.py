"""Processor cores and thread priorities."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Added to the niceness of the process. The event loop has the highest priority, bulk preprocessing
# the lowest.
INFERENCE_NICENESS, BULK_PREPROCESSING_NICENESS = 5, 10
_MAX_NICENESS = 19
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def lower_priority(niceness: int = INFERENCE_NICENESS) -> None:
    """Lower the priority of the calling thread, and of the threads that it starts.

    The event loop can then accept calls and send responses while models keep every core busy.
    Only Linux has thread priorities. Elsewhere this does nothing. See setpriority(2).
    """
    if sys.platform == "linux":
        process = os.getpriority(os.PRIO_PROCESS, os.getpid())
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(_MAX_NICENESS, process + niceness))


def preprocessing_pool(*, bulk: bool) -> ThreadPoolExecutor:
    """Return a pool of low-priority threads that preprocess inputs, one for each core."""
    niceness = BULK_PREPROCESSING_NICENESS if bulk else INFERENCE_NICENESS
    return ThreadPoolExecutor(
        available_cores(), "preprocess", initializer=lower_priority, initargs=(niceness,)
    )


def available_cores() -> int:
    """Return how many cores the affinity and the cgroup quota let the process use."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota, _, period = (
        _CGROUP_QUOTA.read_text().partition(" ") if _CGROUP_QUOTA.is_file() else ("max", "", "")
    )
    if quota != "max":
        count = min(count, -(-int(quota) // int(period)))
    return max(1, count)
