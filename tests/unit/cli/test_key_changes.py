import threading
from pathlib import Path

import pytest

from services.cli.key_changes import add, remove
from services.key_file import parse, sha256


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    names = [f"key {number}" for number in range(20)]
    threads = [
        threading.Thread(target=add, args=(file, {"sha256": sha256(name), "tenant": "acme"}))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(parse(file.read_bytes()).keys) == set(map(sha256, names))
    assert [one.name for one in tmp_path.iterdir()] == ["keys.json"]


def test_a_file_that_cannot_be_replaced_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.json"
    add(file, {"sha256": sha256("one"), "tenant": "acme"})
    before = file.read_text()

    def fail(self: Path, target: Path) -> None:
        raise OSError("The disk is gone.")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="gone"):
        add(file, {"sha256": sha256("two"), "tenant": "acme"})
    assert file.read_text() == before
    assert [one.name for one in tmp_path.iterdir()] == ["keys.json"]


def test_a_removed_key_is_returned(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    add(file, {"sha256": sha256("one"), "tenant": "acme"})
    assert remove(file, sha256("one").upper()).tenant == "acme"
    with pytest.raises(LookupError):
        remove(file, sha256("one"))
