"""Lists the files of a folder as git does: without hidden files and those that .gitignore names."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

IGNORE_FILE = ".gitignore"
# The services accept ids of up to 256 bytes. A longer name becomes its digest and its end.
MAX_ID_BYTES = 256
_DIGEST_DIGITS = 16

# Folders and their patterns, outermost first.
_Rules = tuple[tuple[Path, GitIgnoreSpec], ...]


@dataclass(frozen=True)
class File:
    """A file below a folder; ``id`` is its path in the folder, as valid UTF-8."""

    path: Path
    id: str
    size: int = 0


@dataclass
class Listing:
    """The files of a folder, sorted by path.

    Attributes:
        hidden: number of files and folders that were skipped because their names begin with a dot.
        ignored: number of files and folders that a .gitignore names.
        problems: one line for each file or folder that cannot be read.
    """

    files: list[File] = field(default_factory=list)
    hidden: int = 0
    ignored: int = 0
    problems: list[str] = field(default_factory=list)


def list_files(folder: Path) -> Listing:
    """Return the files below a folder. It does not follow links to folders.

    A nested .gitignore applies to its folder. In a repository, those above the folder apply too.
    """
    listing, root = Listing(), folder.resolve()
    _visit(root, _rules_above(root, listing), listing)
    listing.files.sort(key=lambda file: file.id)
    return listing


def source_of(folder: Path) -> str:
    """Return the name by which the services know a folder, a digest of its absolute path."""
    return f"folder:{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:_DIGEST_DIGITS]}"


def file_id(relative: str) -> str:
    """Return the id of a file with this relative path, which may contain undecodable bytes."""
    name = os.fsencode(relative).decode("utf-8", "backslashreplace")
    data = name.encode()
    if len(data) <= MAX_ID_BYTES:
        return name
    digest = hashlib.sha256(data).hexdigest()[:_DIGEST_DIGITS]
    end = data[len(digest) + len("…".encode()) - MAX_ID_BYTES :]
    return f"{digest}…{end.decode('utf-8', 'ignore')}"


def _visit(root: Path, rules: _Rules, listing: Listing) -> None:
    """Add the files of a folder and of the folders below it."""
    pending = [(root, rules)]
    while pending:
        current, inherited = pending.pop()
        known = inherited + _own_rules(current, root, listing)
        folders = []
        for entry in _entries(current, root, listing):
            path = current / entry.name
            if entry.name.startswith("."):
                listing.hidden += 1
            elif _is_ignored(path, known, is_folder=entry.is_dir(follow_symlinks=False)):
                listing.ignored += 1
            elif entry.is_dir(follow_symlinks=False):
                folders.append(path)
            else:
                _add(path, root, listing)
        pending += [(path, known) for path in folders]


def _entries(folder: Path, root: Path, listing: Listing) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        listing.problems.append(f"{_name(folder, root)}: {error.strerror}")
        return []


def _add(path: Path, root: Path, listing: Listing) -> None:
    name = _name(path, root)
    try:
        status = path.stat()
    except OSError as error:
        listing.problems.append(f"{name}: {error.strerror}")
        return
    if stat.S_ISREG(status.st_mode):
        listing.files.append(File(path, name, status.st_size))
    elif not stat.S_ISDIR(status.st_mode):  # a link to a folder is none of its files
        listing.problems.append(f"{name}: not a regular file")


def _name(path: Path, root: Path) -> str:
    return file_id(path.relative_to(root).as_posix())


def _is_ignored(path: Path, rules: _Rules, *, is_folder: bool) -> bool:
    """Return whether the innermost .gitignore with a matching pattern names a path."""
    for folder, spec in reversed(rules):
        relative = path.relative_to(folder).as_posix()
        outcome = spec.check_file(relative + "/" if is_folder else relative).include
        if outcome is not None:
            return outcome
    return False


def _own_rules(folder: Path, root: Path, listing: Listing) -> _Rules:
    """Return the patterns of the .gitignore in a folder, if there is one."""
    file = folder / IGNORE_FILE
    try:
        text = os.fsdecode(file.read_bytes())
        return ((folder, GitIgnoreSpec.from_lines(text.splitlines())),)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        name = file_id(os.path.relpath(file, root))  # the file may lie above the folder
        listing.problems.append(f"{name}: its patterns are left out: {error}")
        return ()


def _rules_above(folder: Path, listing: Listing) -> _Rules:
    """Return the patterns above a folder, up to the root of its repository."""
    rules: _Rules = ()
    for parent in reversed(list(_up_to_repository(folder))):
        rules += _own_rules(parent, folder, listing)
    return rules


def _up_to_repository(folder: Path) -> Iterator[Path]:
    """Yield the folders above a folder up to one with ``.git``; none if there is no such folder."""
    if (folder / ".git").exists():
        return
    for count, parent in enumerate(folder.parents, 1):
        if (parent / ".git").exists():
            yield from folder.parents[:count]
            return
