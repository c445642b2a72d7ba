"""Runs a service and records what holds its event loop.

``python -m tests.bench.loop_watchdog FILE MODULE`` runs a module that calls ``uvloop.run``. Each
line of the file is a hold as JSON, see ``Hold``. On a busy machine a hold says more than a latency,
because it leaves out the time in which the loop waited for a processor.
"""

import asyncio
import json
import runpy
import sys
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvloop

BEAT, LATE, POLL = 0.005, 0.015, 0.002
DEPTH, STACKS = 12, 4


@dataclass(frozen=True)
class Hold:
    """A time during which the event loop ran no other task.

    Attributes:
        ended_at: seconds since 1970.
        seconds: its length, without the time in which the loop's thread waited for a processor.
        stacks: the stacks of all threads that were seen most often, innermost call first.
    """

    ended_at: float
    seconds: float
    stacks: list[str]


def read_holds(file: Path, since: float) -> list[Hold]:
    """Return the holds that ended after ``since``, the longest first."""
    holds = [Hold(**json.loads(line)) for line in file.read_text().splitlines()]
    recent = [hold for hold in holds if hold.ended_at > since]
    return sorted(recent, key=lambda hold: -hold.seconds)


class Watchdog:
    """Samples the stacks of all threads while a heartbeat of the event loop is late."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", buffering=1)
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        schedule = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._schedule = schedule.open()
        self._beats = [self._now(), self._now()]
        self._beat()
        threading.Thread(target=self._watch, daemon=True).start()

    def _beat(self) -> None:
        self._beats = [self._beats[1], self._now()]
        self._loop.call_later(BEAT, self._beat)

    def _now(self) -> tuple[float, float]:
        """Return the time, and how long the loop's thread has waited for a processor so far."""
        self._schedule.seek(0)
        return time.perf_counter(), int(self._schedule.read().split()[1]) / 1e9

    def _watch(self) -> None:
        stacks: Counter[str] = Counter()
        watched = self._beats[1]
        while True:
            time.sleep(POLL)
            start, end = self._beats
            if stacks and start is watched:
                self._record(end[0] - start[0] - (end[1] - start[1]), stacks)
            if end is not watched:
                stacks, watched = Counter(), end
            if time.perf_counter() - watched[0] > LATE:
                stacks.update(self._stacks())

    def _record(self, seconds: float, stacks: Counter[str]) -> None:
        common = [stack for stack, _ in stacks.most_common(STACKS)]
        self._file.write(json.dumps(asdict(Hold(time.time(), seconds, common))) + "\n")

    def _stacks(self) -> list[str]:
        return [
            ("loop: " if thread == self._loop_thread else "thread: ") + _text(frame)
            for thread, frame in sys._current_frames().items()
            if thread != threading.get_ident()
        ]


def _text(frame: FrameType | None) -> str:
    calls: list[str] = []
    while frame and len(calls) < DEPTH:
        path = "/".join(frame.f_code.co_filename.split("/")[-3:])
        calls.append(f"{path}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(calls)


def main() -> None:
    file, module = Path(sys.argv[1]), sys.argv[2]
    run = uvloop.run

    async def watched(service: Coroutine[Any, Any, Any]) -> None:
        _ = Watchdog(file)
        await service

    def run_watched(service: Coroutine[Any, Any, Any]) -> None:
        run(watched(service))

    uvloop.run = run_watched  # type: ignore[assignment]
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
