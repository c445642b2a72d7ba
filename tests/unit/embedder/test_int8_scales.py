from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.embedder.int8_scales import Ranges
from services.embedder.models.model import AudioClip, Content, ModelInfo, PreparedInput, Tokens


class Fake:
    """A model whose vectors are random, but for their first number; off by ``noise``."""

    def __init__(self, *kinds: str, digest: str = "d" * 64, noise: float = 0.0) -> None:
        modalities = frozenset(kinds)
        self.info = ModelInfo("fake", modalities, 64, 9, "none", "cpu", "float32", digest)
        self.seen: list[Content] = []
        self._noise = noise

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        self.seen += contents
        return [PreparedInput(len(self.seen), 1, 1, False, id(one)) for one in contents]

    def tokenize(self, text: str) -> Tokens:
        raise NotImplementedError

    def encode(self, batch: Sequence[PreparedInput]) -> NDArray[np.float32]:
        rows = [np.random.default_rng(item.payload).normal(size=64) for item in batch]
        return np.array(rows, np.float32) * (1 + self._noise)


def scales(ranges: Ranges) -> list[float]:
    cuts = [(0, True), (0, False), (16, True), (16, False)]
    return [ranges.scale(cut, normalize=normal) for cut, normal in cuts]


def test_ranges_are_kept_by_digest(tmp_path: Path) -> None:
    first = scales(Ranges.of(Fake("text"), tmp_path))
    again = Fake("text", noise=9)
    assert scales(Ranges.of(again, tmp_path)) == first
    assert not again.seen
    other = Fake("text", digest="e" * 64, noise=9)
    assert scales(Ranges.of(other, tmp_path))[1] > first[1]
    assert len(other.seen) == 48


def test_replicas_that_share_nothing_agree(tmp_path: Path) -> None:
    one, other = Fake("text"), Fake("text", noise=1e-5)
    assert scales(Ranges.of(one, tmp_path / "a")) == scales(Ranges.of(other, tmp_path / "b"))
    assert scales(Ranges.of(one, None)) == scales(Ranges.of(other, None))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("cut", [0, 16])
def test_a_scale_reaches_beyond_the_sample(tmp_path: Path, cut: int, normalize: bool) -> None:
    ranges = Ranges.of(Fake("text"), tmp_path)
    rows = np.load(next(tmp_path.rglob("*.npy")))[:, : cut or 64]
    if normalize:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    reach = ranges.scale(cut, normalize=normalize) * 127
    assert 1.25 <= reach / np.abs(rows).max() < 1.8


def test_damaged_ranges_are_made_again(tmp_path: Path) -> None:
    first = scales(Ranges.of(Fake("text"), tmp_path))
    [file] = tmp_path.rglob("*.npy")
    file.write_bytes(file.read_bytes()[:200])
    assert scales(Ranges.of(Fake("text"), tmp_path)) == first
    assert len(file.read_bytes()) > 200


def test_each_kind_has_a_sample_and_pairs_need_none(tmp_path: Path) -> None:
    model = Fake("text", "image", "audio")
    Ranges.of(model, None)
    sounds = [one for one in model.seen if isinstance(one, AudioClip)]
    assert (len(model.seen), len(sounds)) == (144, 48)
    assert max(np.abs(one.samples).max() for one in sounds) <= 1
    pairs = Fake("pair")
    assert Ranges.of(pairs, tmp_path).scale(0, normalize=True) > 0
    assert not pairs.seen


def test_where_nothing_can_be_kept_there_are_ranges_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    kept = scales(Ranges.of(Fake("text"), tmp_path / "file"))
    assert kept == scales(Ranges.of(Fake("text"), None))
