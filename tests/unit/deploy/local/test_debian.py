import platform
from pathlib import Path

import pytest

from deploy.local import debian


@pytest.mark.parametrize(
    ("file", "text", "mirror"),
    [
        (
            "sources.list",
            "deb http://one.example/debian bookworm main\n",
            "http://one.example/debian",
        ),
        (
            "sources.list.d/x.list",
            "# deb http://no.example/debian x\n"
            "deb [arch=amd64] https://two.example/debian/ sid main\n",
            "https://two.example/debian",
        ),
        (
            "sources.list.d/y.sources",
            "Types: deb\nURIs: http://three.example/debian\nSuites: bookworm\n",
            "http://three.example/debian",
        ),
        ("sources.list", "deb http://four.example/debian-security x main\n", None),
    ],
)
def test_the_mirror_is_the_machines_own(
    tmp_path: Path, file: str, text: str, mirror: str | None
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert debian._mirrors(tmp_path) == ([mirror] if mirror else [])


def test_the_command_runs_the_program_by_its_own_loader(tmp_path: Path) -> None:
    libraries = tmp_path / "usr" / "lib" / "libc"
    libraries.mkdir(parents=True)
    loader = libraries / debian._LOADERS.get(platform.machine(), "ld-linux.so")
    program = tmp_path / "usr" / "bin" / "redis-check-rdb"
    program.parent.mkdir()
    for file in (loader, program):
        file.touch()
    command = debian.command(tmp_path)
    assert command[:3] == [str(loader), "--library-path", str(libraries)]
    assert command[-1] == str(program)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(debian.CannotFetch, match="Delete the folder"):
        debian.command(tmp_path)
