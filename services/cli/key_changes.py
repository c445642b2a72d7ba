"""Changes the file of API keys while gateways read it and others change it."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from services.key_file import ID_DIGITS, Key, parse

Row = dict[str, Any]


def add(path: Path, row: Row) -> None:
    """Add a key to a file; create the file if it does not exist.

    Raises:
        OSError: the file cannot be read or written.
        ValueError: the file or the row is not valid.
    """
    parse(json.dumps([row]))
    with _changing(path) as rows:
        rows.append(row)


def remove(path: Path, key_id: str) -> Key:
    """Remove the key whose hash begins with ``key_id`` from a file, and return it.

    Args:
        path: the file.
        key_id: at least the digits of ``Key.id``.

    Raises:
        LookupError: no key has this id, or several have it.
        OSError: the file cannot be read or written.
        ValueError: the file is not valid.
    """
    with _changing(path) as rows:
        keys = list(parse(json.dumps(rows)).keys.values())
        found = [number for number, key in enumerate(keys) if key.sha256.startswith(key_id.lower())]
        if len(found) != 1 or len(key_id) < ID_DIGITS:
            count = "Several keys have" if len(found) > 1 else "No key has"
            raise LookupError(f"{count} the id {key_id!r}. memetwin keys list shows the ids.")
        del rows[found[0]]
    return keys[found[0]]


@contextmanager
def _changing(path: Path) -> Iterator[list[Row]]:
    """Yield the keys of a file to change them, then replace the file, which nobody else changes."""
    with _locked(path) as file:
        data = json.loads(file.read() or "[]")
        parse(json.dumps(data))
        rows = data if isinstance(data, list) else data.setdefault("keys", [])
        yield rows
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        parse(text)
        _replace(path, text, os.fstat(file.fileno()))


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        with open(descriptor, "r+b") as file:  # noqa: PTH123 - it is a descriptor
            fcntl.flock(file, fcntl.LOCK_EX)
            if not os.path.samestat(path.stat(), os.fstat(descriptor)):
                continue  # another process has replaced the file meanwhile
            yield file
            return


def _replace(path: Path, text: str, old: os.stat_result) -> None:
    """Write a file so that readers see all of it or none. It keeps its owner."""
    target = path.resolve()
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(descriptor, "w") as file:  # noqa: PTH123 - it is a descriptor
            file.write(text)
            file.flush()
            os.fsync(descriptor)
            with suppress(PermissionError):
                os.fchown(descriptor, old.st_uid, old.st_gid)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink()
        raise
