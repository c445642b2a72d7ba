import logging
from pathlib import Path

import numpy as np
import pytest

from services.embedder.int8_scales import Int8Scales
from tests.fakes.models import FakeModel, model_info


def text_model(digest: str = "d" * 64, noise: float = 0.0) -> FakeModel:
    return FakeModel(model_info("text", dimensions=64, digest=digest), noise)


def all_scales(scales: Int8Scales) -> list[float]:
    shapes = [(0, True), (0, False), (16, True), (16, False)]
    return [scales.scale(dimensions, normalize=normalize) for dimensions, normalize in shapes]


def test_calibration_vectors_are_stored_by_digest(tmp_path: Path) -> None:
    first = all_scales(Int8Scales.for_model(text_model(), tmp_path))
    again = text_model(noise=9)
    assert all_scales(Int8Scales.for_model(again, tmp_path)) == first
    assert not again.prepared
    other = text_model(digest="e" * 64, noise=9)
    assert all_scales(Int8Scales.for_model(other, tmp_path))[1] > first[1]
    assert len(other.prepared) == 48


def test_replicas_that_share_nothing_agree(tmp_path: Path) -> None:
    def scales(noise: float, folder: Path | None) -> list[float]:
        return all_scales(Int8Scales.for_model(text_model(noise=noise), folder))

    assert scales(0, tmp_path / "a") == scales(1e-5, tmp_path / "b")
    assert scales(0, None) == scales(1e-5, None)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dimensions", [0, 16])
def test_codes_reach_beyond_the_calibration_vectors(
    tmp_path: Path, dimensions: int, normalize: bool
) -> None:
    scales = Int8Scales.for_model(text_model(), tmp_path)
    vectors = np.load(next(tmp_path.rglob("*.npy")))[:, : dimensions or 64]
    if normalize:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    largest_code = scales.scale(dimensions, normalize=normalize) * 127
    assert 1.25 <= largest_code / np.abs(vectors).max() < 1.8


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: b"", lambda data: b"x"])
def test_a_damaged_file_is_written_again(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    first = all_scales(Int8Scales.for_model(text_model(), tmp_path))
    [file] = tmp_path.rglob("*.npy")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert all_scales(Int8Scales.for_model(text_model(), tmp_path)) == first
    assert file.read_bytes() == whole


def test_vectors_of_other_dimensions_are_not_used(tmp_path: Path) -> None:
    Int8Scales.for_model(FakeModel(model_info("text", dimensions=32)), tmp_path)
    model = text_model()
    Int8Scales.for_model(model, tmp_path)
    assert len(model.prepared) == 48


def test_every_modality_is_calibrated_and_pairs_need_not_be(tmp_path: Path) -> None:
    model = FakeModel(model_info("text", "image", "audio"))
    Int8Scales.for_model(model, None)
    assert len(model.prepared) == 144
    pairs = FakeModel(model_info("pair"))
    assert Int8Scales.for_model(pairs, tmp_path).scale(0, normalize=True) > 0
    assert not pairs.prepared


def test_scales_are_found_where_nothing_can_be_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        scales = all_scales(Int8Scales.for_model(text_model(), tmp_path / "file"))
    assert scales == all_scales(Int8Scales.for_model(text_model(), None))
    assert "could not store calibration vectors" in caplog.text
