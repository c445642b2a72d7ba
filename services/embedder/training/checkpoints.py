"""The state of a training in a file, so that an interrupted training can resume."""

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

# The share of the time that checkpoints may take.
_MAX_SHARE = 0.05
# Incremented when the content of a state changes.
_FORMAT = "2"


class Checkpoint:
    """A file that always holds a complete state, and knows which training it belongs to.

    Args:
        file: the file; it need not exist yet.
        identity: everything that decides the result, such as options and a digest of the data.
    """

    def __init__(self, file: Path, identity: Mapping[str, str]) -> None:
        self._file, self._identity = file, {"format": _FORMAT, **identity}
        self._last_save, self._save_seconds = time.monotonic(), 0.0

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, or None if no state is saved.

        Raises:
            ValueError: the file is damaged, or belongs to a training with other options or data.
        """
        if not self._file.exists():
            return None
        try:
            # weights_only: tensors and plain values; nothing in the file is executed.
            content = torch.load(self._file, map_location="cpu", weights_only=True)
            identity, state = content["identity"], dict(content["state"])
        except Exception as error:
            raise ValueError(
                f"{self._file} is not a valid checkpoint. Delete it to start over"
            ) from error
        for name in self._identity.keys() | identity.keys():
            expected, found = self._identity.get(name, ""), identity.get(name, "")
            if expected != found:
                raise ValueError(
                    f"{self._file} belongs to another training ({name}: {found}; expected:"
                    f" {expected}). Repeat the command of that training to resume it, or delete the"
                    " file to start over"
                )
        return state

    def due(self) -> bool:
        """Return whether to save now. Saving takes at most a twentieth of the time."""
        return time.monotonic() - self._last_save >= self._save_seconds / _MAX_SHARE

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the file atomically."""
        started = time.monotonic()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_suffix(".new")
        with temporary.open("wb") as file:
            torch.save({"identity": self._identity, "state": dict(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._file)
        self._last_save = time.monotonic()
        self._save_seconds = self._last_save - started

    def remove(self) -> None:
        """Delete the file, because the training is complete."""
        self._file.unlink(missing_ok=True)


def content_digest(parts: Iterable[bytes]) -> str:
    """Compute a short digest of data for an identity: 16 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]
