import os
import sys
import threading
from pathlib import Path

import pytest

from services.embedder import cpu

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has priorities for threads"
)


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def process_niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, os.getpid())


@linux_only
def test_a_thread_lowers_its_own_priority_and_not_that_of_the_process() -> None:
    before, found = process_niceness(), list[int]()

    def lower() -> None:
        cpu.lower_priority(3)
        found.append(niceness())

    thread = threading.Thread(target=lower)
    thread.start()
    thread.join()
    assert found == [min(19, before + 3)]
    assert process_niceness() == before


@linux_only
@pytest.mark.parametrize(("process", "thread"), [(-10, -5), (0, 5), (14, 19), (18, 19), (19, 19)])
def test_the_niceness_is_relative_to_the_process_and_19_at_most(
    monkeypatch: pytest.MonkeyPatch, process: int, thread: int
) -> None:
    calls = list[tuple[int, int, int]]()
    monkeypatch.setattr(os, "getpriority", lambda which, who: process)
    monkeypatch.setattr(os, "setpriority", lambda *call: calls.append(call))
    cpu.lower_priority()
    assert calls == [(os.PRIO_PROCESS, threading.get_native_id(), thread)]


@linux_only
@pytest.mark.parametrize(("bulk", "added"), [(False, 5), (True, 10)])
def test_bulk_is_preprocessed_at_the_lowest_priority(bulk: bool, added: int) -> None:
    with cpu.preprocessing_pool(bulk=bulk) as pool:
        assert pool.submit(niceness).result() == min(19, process_niceness() + added)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        (None, 8),
        ("max 100000", 8),
        ("400000 100000", 4),
        ("150000 100000", 2),
        ("5000 100000", 1),
        ("1600000 100000", 8),
    ],
)
def test_cores_are_those_of_the_affinity_and_the_quota(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str | None, cores: int
) -> None:
    file = tmp_path / "cpu.max"
    if quota:
        file.write_text(f"{quota}\n")
    monkeypatch.setattr(cpu, "_CGROUP_QUOTA", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert cpu.available_cores() == cores
