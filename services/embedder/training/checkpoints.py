"""Where a training stands, kept in a file, so that one that was killed goes on."""

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

# A checkpoint may cost so much of the time between two of them.
_SHARE = 0.05


class Checkpoint:
    """A file that always holds a whole state, and knows of which training it is.

    Args:
        file: where it lies; there need not be one yet.
        identity: all that decides the result (options, digest of the data).
    """

    def __init__(self, file: Path, identity: Mapping[str, str]) -> None:
        self._file, self._identity = file, dict(identity)
        self._last, self._cost = time.monotonic(), 0.0

    def load(self) -> dict[str, Any] | None:
        """Return the state, or None if there is none.

        Raises:
            ValueError: the file is damaged, or of a training with other options or data.
        """
        if not self._file.exists():
            return None
        try:  # tensors and plain values alone: nothing in the file is ever run
            content = torch.load(self._file, map_location="cpu", weights_only=True)
            theirs, state = content["identity"], content["state"]
        except Exception as error:
            raise ValueError(f"{self._file} is no checkpoint: delete it to begin anew") from error
        for name in self._identity.keys() | theirs.keys():
            ours, found = self._identity.get(name, ""), theirs.get(name, "")
            if ours != found:
                raise ValueError(
                    f"{self._file} is of another training: its {name} is {found}, not {ours}."
                    " Repeat that command to go on with it, or delete the file to begin anew"
                )
        return dict(state)

    def due(self) -> bool:
        """Say whether it is time for one: they take a twentieth of the time at most."""
        return time.monotonic() - self._last >= self._cost / _SHARE

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the file by a new one in one step."""
        began = time.monotonic()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        beside = self._file.with_suffix(".new")
        with beside.open("wb") as file:
            torch.save({"identity": self._identity, "state": dict(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._file)
        self._last = time.monotonic()
        self._cost = self._last - began

    def remove(self) -> None:
        """Delete the file: the training is over."""
        self._file.unlink(missing_ok=True)


def digest(parts: Iterable[bytes]) -> str:
    """Return a short digest of data, for an identity."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:16]
