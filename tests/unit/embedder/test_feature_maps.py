import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.embedder import feature_maps
from services.embedder.models.model import LayerOutput
from services.errors import FailedPrecondition, InvalidArgument
from tests.fakes.models import FakeModel, model_info

INFO = model_info("image")


class Layered:
    """A model with one convolution of 20 large maps, and one vector."""

    def __init__(self) -> None:
        generator = np.random.default_rng(3)
        self.maps = generator.normal(size=(20, 130, 130)).astype(np.float32)
        self.vector = np.array([-2, 0, 1], np.float32)
        self.weights = generator.normal(size=(20, 3, 3, 3)).astype(np.float32)

    def feature_maps(self, image: Image.Image) -> tuple[Any, list[LayerOutput]]:
        outputs = [
            LayerOutput("convolution", self.maps, self.weights),
            LayerOutput("dense", self.vector),
        ]
        return np.zeros((4, 4, 3), np.uint8), outputs


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()


def test_maps_are_sampled_and_sent_as_bytes_with_a_scale() -> None:
    model = Layered()
    maps, vector = feature_maps.compute(model, INFO, png(), 16).layers
    assert (maps.kind, maps.shape) == ("convolution", (20, 130, 130))
    sampled = model.maps[:16, ::3, ::3]
    assert maps.codes.shape == sampled.shape == (16, 44, 44)
    assert maps.codes * maps.scale == pytest.approx(sampled, abs=maps.scale / 2 + 1e-6)
    assert maps.weights is not None
    assert (maps.weights == model.weights[:16]).all()
    assert vector.codes.tolist() == [-127, 0, 64]
    assert (vector.shape, vector.weights) == ((3,), None)


def test_maps_of_zeros_have_a_scale() -> None:
    model = Layered()
    model.maps[:] = 0
    [maps, _] = feature_maps.compute(model, INFO, png(), 1).layers
    assert (maps.scale, int(np.abs(maps.codes).max())) == (1.0, 0)


def test_a_damaged_image_is_refused() -> None:
    with pytest.raises(InvalidArgument) as refused:
        feature_maps.compute(Layered(), INFO, b"not an image", 16)
    assert refused.value.reason == "NOT_A_PICTURE"


@pytest.mark.parametrize(("asked", "channels"), [(0, 16), (1, 1), (64, 64)])
def test_the_number_of_channels_has_a_default(asked: int, channels: int) -> None:
    assert feature_maps.validate_channels(asked) == channels


@pytest.mark.parametrize("asked", [-1, 65])
def test_too_many_channels_are_refused(asked: int) -> None:
    with pytest.raises(InvalidArgument) as refused:
        feature_maps.validate_channels(asked)
    assert refused.value.reason == "BAD_CHANNELS"


def test_a_model_without_layers_is_refused() -> None:
    model = Layered()
    assert feature_maps.layered(model, INFO) is model
    with pytest.raises(FailedPrecondition) as refused:
        feature_maps.layered(FakeModel(INFO), INFO)
    assert refused.value.reason == "NO_FEATURE_MAPS"
