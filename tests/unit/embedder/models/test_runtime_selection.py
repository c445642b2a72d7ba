import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from services.embedder.models import runtime_selection
from services.embedder.models.runtime_selection import Sample
from services.embedder.models.runtimes import Rows, Runtime, TokenIds, padded


class Fake:
    """A runtime whose vectors are off by a random part, and by another that its batch decides."""

    workers = 2
    batch_tokens = 1024

    def __init__(self, name: str, off: float = 0.0, mates: float = 0.0) -> None:
        self.name, self.dtype, self._off, self._mates = name, "float32", off, mates

    def compute(self, batch: Sequence[TokenIds]) -> Rows:
        rows = [np.random.default_rng(list(tokens)).normal(size=64) for tokens in batch]
        noise = [np.random.default_rng([9, *tokens]).normal(size=64) for tokens in batch]
        share = self._off + self._mates * len(batch)
        return np.array(rows, np.float32) + share * np.array(noise, np.float32)


SAMPLE = Sample([[side, n] for side in (1, 2) for n in range(24)])


def choose(tmp_path: Path, *fakes: Fake, exact: bool = False) -> tuple[str, list[str]]:
    made: list[Runtime] = [Fake("reference"), *fakes]
    ways = {(one.name, one.dtype): (lambda one=one: one) for one in made}
    runtime, trial, tried = runtime_selection.choose(
        ways, SAMPLE, exact=exact, record=tmp_path / "deep" / "trials.json"
    )
    assert trial.runtime == runtime.name
    return runtime.name, [one.runtime for one in tried]


@pytest.fixture(autouse=True)
def speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still: what comes last is fastest."""
    counted = iter(range(1, 100))
    monkeypatch.setattr(runtime_selection, "_speed", lambda runtime, sample: float(next(counted)))


def test_the_fastest_that_agrees_is_taken(tmp_path: Path) -> None:
    chosen = choose(tmp_path, Fake("slow"), Fake("fast"), Fake("wrong", off=0.5))
    assert chosen == ("fast", ["reference", "slow", "fast", "wrong"])


def test_exact_asks_for_more_than_auto(tmp_path: Path) -> None:
    near = Fake("near", off=0.05)
    assert choose(tmp_path / "auto", near)[0] == "near"
    assert choose(tmp_path / "exact", near, exact=True)[0] == "reference"


def test_a_runtime_whose_vectors_depend_on_their_batch_is_refused(tmp_path: Path) -> None:
    assert choose(tmp_path, Fake("coupled", mates=0.002))[0] == "reference"


def test_trials_are_kept_and_damaged_ones_made_again(tmp_path: Path) -> None:
    assert choose(tmp_path, Fake("fast"))[0] == "fast"
    record = tmp_path / "deep" / "trials.json"
    [(key, kept)] = json.loads(record.read_text()).items()
    kept[1]["texts_per_second"] = 0.5
    record.write_text(json.dumps({key: kept}))
    assert choose(tmp_path, Fake("fast"))[0] == "reference"
    record.write_text("{")
    assert choose(tmp_path, Fake("fast"))[0] == "fast"


def test_a_runtime_that_fails_is_left_out(tmp_path: Path) -> None:
    class Broken(Fake):
        def compute(self, batch: Sequence[TokenIds]) -> Rows:
            raise RuntimeError("no")

    assert choose(tmp_path, Broken("broken")) == ("reference", ["reference"])


def test_short_rows_are_filled_and_masked() -> None:
    ids, mask = padded([[5, 6, 7], [8]], 1)
    assert ids.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
