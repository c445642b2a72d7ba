"""Installs client libraries below ``.memetwin``, once for each version of their lock files."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, note_left_out

HERE = Path(__file__).parent
FOLDER = ROOT / ".memetwin" / "clients"
TIMEOUT = 600


def python() -> Path:
    """Return an interpreter with the Python libraries. Skips the test if they cannot be had."""
    requirements = HERE / "requirements.txt"

    def install(folder: Path) -> None:
        run([sys.executable, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
        run([*pip, "--disable-pip-version-check", "--requirement", str(requirements)])

    return _installed("python", [requirements], install) / "bin" / "python"


def node() -> Path:
    """Return a folder with the Node libraries and scripts. Skips the test if they cannot be had."""
    if not (shutil.which("node") and shutil.which("npm")):
        _leave_out("client libraries for Node: Node and npm are not installed")
    files = [HERE / "node" / name for name in ("package.json", "package-lock.json")]

    def install(folder: Path) -> None:
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        run(["npm", "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"])

    folder = _installed("node", files, install)
    for script in (HERE / "node").glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


def run(words: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a command, and return what it prints. Raises AssertionError if it fails."""
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=TIMEOUT, env=environment
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def _installed(name: str, files: list[Path], install: Callable[[Path], None]) -> Path:
    """Return a folder that ``install`` has made from files. A failed one is removed."""
    version = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    folder = FOLDER / f"{name}-{version}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        marker = folder / "installed"
        if not marker.exists():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                install(folder)
            except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
                _leave_out(f"client libraries for {name}: they cannot be installed here\n{error}")
            marker.touch()
    return folder


def _leave_out(reason: str) -> None:
    """Skip a test, also under CI, because a registry of packages may be unreachable anywhere."""
    note_left_out(reason.splitlines()[0])
    pytest.skip(reason)
