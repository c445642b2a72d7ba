import os
from pathlib import Path

import pytest

from services.cli.folders import MAX_ID_BYTES, Listing, file_id, list_files, source_of


def make(folder: Path, *names: str, text: str = "text") -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def ids(listing: Listing) -> list[str]:
    return [file.id for file in listing.files]


def test_files_have_their_paths_as_ids(tmp_path: Path) -> None:
    make(tmp_path, "b.md", "2019/IMG.png", "2020/IMG.png", "a/b/c.txt")
    listing = list_files(tmp_path)
    assert ids(listing) == ["2019/IMG.png", "2020/IMG.png", "a/b/c.txt", "b.md"]
    assert [file.size for file in listing.files] == [4] * 4
    assert (listing.hidden, listing.ignored, listing.problems) == (0, 0, [])


def test_hidden_files_and_folders_are_skipped_and_counted(tmp_path: Path) -> None:
    make(tmp_path, ".env", ".git/config", "sub/.hidden/x.md", "sub/a.md", "…md")
    listing = list_files(tmp_path)
    assert ids(listing) == ["sub/a.md", "…md"]
    assert listing.hidden == 3


def test_a_hidden_folder_can_be_named(tmp_path: Path) -> None:
    make(tmp_path, ".notes/a.md")
    assert ids(list_files(tmp_path / ".notes")) == ["a.md"]


def test_patterns_apply_below_their_folder(tmp_path: Path) -> None:
    make(tmp_path, "keep.log", "a.log", "build/x.md", "docs/build/y.md", "docs/a.log", "docs/b.tmp")
    make(tmp_path, ".gitignore", text="*.log\n!keep.log\n/build/\n# comment\n")
    make(tmp_path, "docs/.gitignore", text="!a.log\n*.tmp\n")
    listing = list_files(tmp_path)
    assert ids(listing) == ["docs/a.log", "docs/build/y.md", "keep.log"]
    assert (listing.hidden, listing.ignored) == (2, 3)


def test_patterns_of_the_repository_apply_to_its_folders(tmp_path: Path) -> None:
    make(tmp_path, "repository/.git/HEAD", "repository/docs/a.md", "repository/docs/b.tmp")
    make(tmp_path, ".gitignore", text="*.md\n")
    make(tmp_path, "repository/.gitignore", text="*.tmp\n")
    assert ids(list_files(tmp_path / "repository" / "docs")) == ["a.md"]
    assert ids(list_files(tmp_path / "repository")) == ["docs/a.md"]


def test_names_that_are_not_utf8_have_ids(tmp_path: Path) -> None:
    make(tmp_path, os.fsdecode(b"caf\xe9.txt"), "ok.txt")
    assert ids(list_files(tmp_path)) == ["caf\\xe9.txt", "ok.txt"]


def test_long_paths_keep_their_end() -> None:
    name = "文" * 120 + "/notes.md"
    assert len(file_id(name).encode()) <= MAX_ID_BYTES
    assert file_id(name).endswith("文/notes.md")
    assert file_id(name) != file_id("書" + name)
    assert file_id("a" * MAX_ID_BYTES) == "a" * MAX_ID_BYTES


def test_what_cannot_be_read_is_a_problem_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.md", "locked/b.md", "sub/c.md")
    (tmp_path / "gone.md").symlink_to("nowhere")
    (tmp_path / "again").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.md")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_files(tmp_path)
    assert ids(listing) == ["a.md", "sub/c.md"]
    assert sorted(listing.problems) == [
        "gone.md: No such file or directory",
        "locked: Permission denied",
        "pipe.md: not a regular file",
    ]


def test_a_bad_pattern_file_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.md")
    (tmp_path / ".gitignore").mkdir()
    listing = list_files(tmp_path)
    assert ids(listing) == ["a.md"]
    assert listing.problems[0].startswith(".gitignore: its patterns are left out")


def test_a_folder_is_known_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a/x.md", "b/a/x.md")
    monkeypatch.chdir(tmp_path)
    assert source_of(Path("a")) == source_of(tmp_path / "b" / ".." / "a")
    assert source_of(Path("a")) != source_of(tmp_path / "b" / "a")
