"""Unpacks the redis-server package of Debian 13 and its libraries without root.

The module runs apt with separate folders. Apt downloads from the mirrors that are configured on
this machine, checks the signature of the archive against Debian's keyring, resolves the
dependencies, and verifies every download. The dynamic loader of the unpacked libc starts the
program.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

SUITE = "trixie"
PACKAGES = ("redis-server",)
# Packages that the program does not need to run: init system, user management, debconf.
EXCLUDED = ("debconf", "init-system-helpers", "adduser", "systemd", "perl-base", "dpkg")
KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-trixie-stable.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
)
_LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
_SOURCE_FILES = ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources")
_ARCHIVE = re.compile(r"\b(https?://[^\s\]]+?/debian)/?(?=\s|$)")


class CannotFetch(Exception):
    """The package cannot be installed. The message says what is missing."""


def fetch(folder: Path) -> None:
    """Download the package and unpack it. The folder appears when everything is unpacked.

    Raises:
        CannotFetch: apt, a Debian mirror or the keyring is missing, or a step fails.
    """
    folder = folder.absolute()
    work = folder.with_name(folder.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    root, apt = work / "root", work / "apt"
    for path in (root, apt / "lists/partial", apt / "archives/partial", apt / "etc"):
        path.mkdir(parents=True)
    (apt / "status").touch()
    options = _options(apt)
    (apt / "sources.list").write_text(_sources())
    _run("apt-get", *options, "update")
    for package in _closure(options):
        _run("apt-get", *options, "download", package, cwd=apt / "archives")
    for archive in sorted((apt / "archives").glob("*.deb")):
        _run("dpkg-deb", "--extract", str(archive), str(root))
    shutil.rmtree(apt)
    root.rename(folder)
    work.rmdir()


def command(folder: Path) -> list[str]:
    """Return the command that starts the unpacked redis-server, without arguments.

    Raises:
        CannotFetch: a file is missing in the folder.
    """
    folder = folder.absolute()
    loader = _find(folder, _LOADERS.get(platform.machine(), "ld-linux*"))
    program = _find(folder, "redis-check-rdb").resolve()
    libraries = str(loader.resolve().parent)
    return [str(loader), "--library-path", libraries, "--argv0", "redis-server", str(program)]


def _sources() -> str:
    """Return the line for sources.list, with this machine's mirror and Debian's keys."""
    keyring = next((path for path in KEYRINGS if Path(path).exists()), None)
    if keyring is None:
        raise CannotFetch("Debian's keyring is missing. Install debian-archive-keyring.")
    mirrors = _mirrors(Path("/etc/apt"))
    if not mirrors:
        raise CannotFetch("apt has no Debian mirror. Add one to /etc/apt/sources.list.")
    return f"deb [signed-by={keyring}] {mirrors[0]} {SUITE} main\n"


def _mirrors(folder: Path) -> list[str]:
    """Return the Debian mirrors of an apt configuration in order."""
    found: list[str] = []
    for pattern in _SOURCE_FILES:
        for path in sorted(folder.glob(pattern)):
            for line in path.read_text(errors="replace").splitlines():
                if not line.lstrip().startswith("#"):
                    found += _ARCHIVE.findall(line)
    return list(dict.fromkeys(found))


def _options(apt: Path) -> list[str]:
    """Return the options that make apt run as the current user in a separate folder."""
    settings = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "Dir::State": apt,
        "Dir::State::status": apt / "status",
        "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt,
        "Dir::Cache::archives": apt / "archives",
        "APT::Sandbox::User": "",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    return [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]


def _closure(options: list[str]) -> list[str]:
    """Return the names of the package and its dependencies."""
    skip = ("recommends", "suggests", "enhances", "conflicts", "breaks", "replaces")
    flags = ["--recurse", *(f"--no-{kind}" for kind in skip)]
    listing = _run("apt-cache", *options, "depends", *flags, *PACKAGES)
    names = [line for line in listing.splitlines() if line and line[0] not in " |<"]
    return [name for name in names if name.split(":")[0] not in EXCLUDED]


def _find(folder: Path, name: str) -> Path:
    for path in sorted(folder.rglob(name)):
        return path
    raise CannotFetch(f"{name} is missing in {folder}. Delete the folder and try again.")


def _run(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise CannotFetch(f"{command[0]} is not installed.") from error
    except subprocess.TimeoutExpired as error:
        raise CannotFetch(f"{command[0]} took more than five minutes.") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise CannotFetch(f"{command[0]} failed: {last}") from error
    return done.stdout


def main() -> None:
    """Unpack into the folder named by the first argument, and print the command of the program."""
    folder = Path(sys.argv[1])
    if not folder.exists():
        fetch(folder)
    print(*command(folder))


if __name__ == "__main__":
    main()
