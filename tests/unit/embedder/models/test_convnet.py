from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.embedder.models import convnet
from services.embedder.models.convnet import DEFAULT_IMAGE_MODEL, ConvNetModel
from services.embedder.models.model import ModelLoadError
from tests.fakes.networks import tiny_network


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConvNetModel:
    monkeypatch.setattr(convnet, "best_device", lambda: "cpu")
    tiny_network().save(tmp_path)
    return ConvNetModel.load(str(tmp_path))


def test_it_is_described(model: ConvNetModel) -> None:
    info = model.info
    assert (info.name, info.dimensions) == ("tiny", 8)
    assert info.modalities == {"image"}
    assert (info.runtime, info.device, info.dtype, info.max_tokens) == (
        "torch",
        "cpu",
        "float32",
        0,
    )
    assert info.digest == tiny_network().digest


def test_images_are_encoded_in_order(model: ConvNetModel) -> None:
    images = [Image.new("RGB", (40, 20), colour) for colour in ("red", "blue", "red")]
    prepared = model.prepare(images, "query")
    vectors = model.encode(prepared)
    assert vectors.shape == (3, 8)
    assert np.allclose(vectors[0], vectors[2], atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
    assert prepared[0].key == prepared[2].key != prepared[1].key


def test_texts_are_refused(model: ConvNetModel) -> None:
    with pytest.raises(TypeError, match="only images"):
        model.prepare(["a text"], "")
    with pytest.raises(TypeError, match="only images"):
        model.tokenize("a text")


def test_names_and_folders_of_networks_match(model: ConvNetModel, tmp_path: Path) -> None:
    assert ConvNetModel.matches(DEFAULT_IMAGE_MODEL)
    assert ConvNetModel.matches(str(tmp_path))
    assert not ConvNetModel.matches(str(tmp_path / "elsewhere"))


def test_a_folder_without_a_network_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="cannot be loaded: cannot read"):
        ConvNetModel.load(str(tmp_path))


def test_its_layers_end_in_its_vector(model: ConvNetModel) -> None:
    image = Image.linear_gradient("L").convert("RGB")
    pixels, layers = model.feature_maps(image)
    network = tiny_network()
    assert pixels.shape == (network.side, network.side, 3)
    assert len(layers) == len(network.architecture.layers)
    assert layers[-1].values.shape == (8,)
    [first] = [layer for layer in layers if layer.weights is not None]
    assert first is layers[0]
    assert first.weights is not None
    assert first.weights.shape[:2] == (layers[0].values.shape[0], 3)
    if not network.architecture.mirrored:
        [vector] = model.encode(model.prepare([image], ""))
        assert layers[-1].values == pytest.approx(vector, abs=1e-4)
