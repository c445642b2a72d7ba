import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.processes import CannotStart, Processes, require_free
from tests.stack import wait_until

SLEEP = [sys.executable, "-c", "import time; print('hello', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True);"
    " time.sleep(60)",
]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path / "a folder with spaces")
    yield processes
    processes.stop("one", timeout=0)


def wait_for_output(processes: Processes, name: str) -> None:
    wait_until(lambda: "(empty)" not in processes.tail(name))


def test_a_process_is_started_found_again_and_stopped(processes: Processes, tmp_path: Path) -> None:
    started = processes.start("one", SLEEP, {"X": "1"}, tmp_path)
    assert processes.running("one") == started
    wait_for_output(processes, "one")
    assert "hello" in processes.tail("one")
    assert processes.stop("one")
    assert processes.running("one") is None
    assert not processes.stop("one")


def test_a_process_that_has_exited_is_reported_with_the_end_of_its_log(
    processes: Processes, tmp_path: Path
) -> None:
    processes.start("one", [sys.executable, "-c", "raise SystemExit('no luck')"], {}, tmp_path)
    wait_for_output(processes, "one")
    wait_until(lambda: processes.running("one") is None)
    with pytest.raises(CannotStart, match=r"one has exited[\s\S]*no luck"):
        processes.check("one")


def test_the_record_of_another_process_is_deleted(processes: Processes, tmp_path: Path) -> None:
    started = processes.start("one", SLEEP, {}, tmp_path)
    file = tmp_path / "a folder with spaces" / "run" / "one.json"
    file.write_text(file.read_text().replace(f'"{started.started}"', '"1"'))
    assert processes.running("one") is None
    assert not file.exists()
    os.killpg(started.pid, signal.SIGKILL)

    def is_reaped() -> bool:
        processes.running("one")
        return not Path(f"/proc/{started.pid}").exists()

    wait_until(is_reaped)


def test_a_process_that_ignores_sigterm_is_killed(processes: Processes, tmp_path: Path) -> None:
    processes.start("one", STUBBORN, {}, tmp_path)
    wait_for_output(processes, "one")
    assert processes.stop("one", timeout=0.3)
    assert processes.running("one") is None


def test_a_port_in_use_is_reported_with_its_listener_and_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(CannotStart) as caught:
            require_free("127.0.0.1", port, "MEMETWIN_HTTP_LISTEN")
    assert f"Port {port} is in use" in str(caught.value)
    assert "MEMETWIN_HTTP_LISTEN" in str(caught.value)
    assert f"process {os.getpid()}" in str(caught.value)
    require_free("127.0.0.1", port, "MEMETWIN_HTTP_LISTEN")
