import time
from pathlib import Path
from typing import Any

import pytest
import torch

from services.embedder.training import checkpoints
from services.embedder.training.checkpoints import Checkpoint, content_digest

IDENTITY = {"options": "--epochs 2", "data": "abc"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "checkpoint.pt"


def test_a_saved_state_is_loaded(file: Path) -> None:
    weights = torch.arange(4.0)
    state = {"epoch": 3, "best": None, "nested": {"losses": [0.5]}}
    Checkpoint(file, IDENTITY).save(state | {"weights": weights})
    loaded = Checkpoint(file, IDENTITY).load()
    assert loaded
    assert torch.equal(loaded.pop("weights"), weights)
    assert loaded == state
    assert [path.name for path in file.parent.iterdir()] == ["checkpoint.pt"]


def test_without_a_file_there_is_no_state(file: Path) -> None:
    checkpoint = Checkpoint(file, IDENTITY)
    assert checkpoint.load() is None
    checkpoint.remove()
    checkpoint.save({})
    checkpoint.remove()
    assert checkpoint.load() is None


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        (IDENTITY | {"data": "xyz"}, r"another training \(data: abc; expected: xyz\)"),
        (IDENTITY | {"model": "m"}, r"another training \(model: ; expected: m\)"),
        ({"options": "--epochs 2"}, r"another training \(data: abc; expected: \)"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    file: Path, identity: dict[str, str], message: str
) -> None:
    Checkpoint(file, IDENTITY).save({})
    with pytest.raises(ValueError, match=message):
        Checkpoint(file, identity).load()


def test_a_checkpoint_of_another_format_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Checkpoint(file, IDENTITY).save({})
    monkeypatch.setattr(checkpoints, "_FORMAT", "next")
    with pytest.raises(ValueError, match="format: 2; expected: next"):
        Checkpoint(file, IDENTITY).load()


class Executed:
    def __reduce__(self) -> Any:
        return pytest.fail, ("a checkpoint must not execute code",)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", {"state": 1}, Executed()])
def test_a_damaged_file_is_refused(file: Path, content: Any) -> None:
    file.parent.mkdir()
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=r"not a valid checkpoint\. Delete it to start over"):
        Checkpoint(file, IDENTITY).load()


def test_saving_takes_a_twentieth_of_the_time_at_most(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoint = Checkpoint(file, IDENTITY)
    assert checkpoint.due()

    def replace(source: Path, target: Path) -> None:
        now[0] += 2  # the save takes two seconds

    monkeypatch.setattr(Path, "replace", replace)
    checkpoint.save({})
    now[0] += 39
    assert not checkpoint.due()
    now[0] += 1
    assert checkpoint.due()


def test_a_digest_depends_on_the_parts_and_their_order() -> None:
    digests = {content_digest(parts) for parts in ([b"a", b"b"], [b"b", b"a"], [b"ab"], [])}
    assert len(digests) == 4
    assert all(len(digest) == 16 for digest in digests)
    assert content_digest([b"a"]) == content_digest(iter([b"a"]))
