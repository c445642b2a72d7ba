import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from deploy.local.processes import CannotStart, Processes, require_free

SLEEP = [sys.executable, "-c", "import time; print('hello', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True);"
    " time.sleep(60)",
]


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path / "a folder with spaces")


def wait_for_output(processes: Processes, name: str) -> None:
    end = time.monotonic() + 10
    while "(empty)" in processes.tail(name):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_process_is_started_found_again_and_stopped(processes: Processes, tmp_path: Path) -> None:
    started = processes.start("one", SLEEP, {"X": "1"}, tmp_path)
    assert processes.running("one") == started
    wait_for_output(processes, "one")
    assert "hello" in processes.tail("one")
    assert processes.stop("one")
    assert processes.running("one") is None
    assert not processes.stop("one")


def test_a_dead_process_is_named_with_the_end_of_its_log(
    processes: Processes, tmp_path: Path
) -> None:
    processes.start("one", [sys.executable, "-c", "raise SystemExit('no luck')"], {}, tmp_path)
    wait_for_output(processes, "one")
    time.sleep(0.2)
    with pytest.raises(CannotStart, match=r"one has died[\s\S]*no luck"):
        processes.check("one")


def test_a_stale_file_of_another_process_is_forgotten(processes: Processes, tmp_path: Path) -> None:
    started = processes.start("one", SLEEP, {}, tmp_path)
    file = tmp_path / "a folder with spaces" / "run" / "one.json"
    file.write_text(file.read_text().replace(f'"{started.started}"', '"1"'))
    assert processes.running("one") is None
    assert not file.exists()
    os.killpg(started.pid, signal.SIGKILL)
    end = time.monotonic() + 5
    while Path(f"/proc/{started.pid}").exists() and time.monotonic() < end:
        processes.running("one")
        time.sleep(0.02)


def test_what_will_not_end_is_killed(processes: Processes, tmp_path: Path) -> None:
    processes.start("one", STUBBORN, {}, tmp_path)
    wait_for_output(processes, "one")
    assert processes.stop("one", seconds=0.3)
    assert processes.running("one") is None


def test_a_busy_port_is_named_with_its_setting_and_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(CannotStart) as caught:
            require_free("127.0.0.1", port, "MEMETWIN_HTTP_LISTEN")
    assert f"Port {port} is busy" in str(caught.value)
    assert "MEMETWIN_HTTP_LISTEN" in str(caught.value)
    assert f"process {os.getpid()}" in str(caught.value)
    require_free("127.0.0.1", port, "MEMETWIN_HTTP_LISTEN")
