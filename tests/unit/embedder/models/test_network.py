import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from services.embedder.models.network import ARCHITECTURE_FILE, WEIGHTS_FILE, Network, build
from tests.fakes.networks import DECLARATION, tiny_architecture, tiny_network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_network().save(tmp_path)
    return tmp_path


@pytest.fixture
def batch() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 256, (9, 16, 16, 3), np.uint8)


def rewrite(folder: Path, change: Any) -> None:
    tensors = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    change(tensors)
    safetensors.torch.save_file(tensors, folder / WEIGHTS_FILE)


def test_a_saved_network_loads_with_its_digest_and_its_vectors(folder: Path, batch: Any) -> None:
    first, again = Network.load(folder), Network.load(folder)
    assert (first.name, first.side, first.dimensions) == ("tiny", 16, 8)
    assert first.digest == again.digest == tiny_network().digest
    assert (first.encode(batch) == again.encode(batch)).all()
    np.testing.assert_allclose(
        first.encode(batch), tiny_network().encode(batch), atol=5e-3
    )  # float16


def test_a_changed_weight_or_declaration_changes_the_digest(folder: Path) -> None:
    before = Network.load(folder).digest
    rewrite(folder, lambda tensors: tensors["0.bias"].add_(1))
    after = Network.load(folder).digest
    (folder / ARCHITECTURE_FILE).write_text(json.dumps(DECLARATION | {"mirrored": False}))
    assert len({before, after, Network.load(folder).digest}) == 3


def test_the_layers_compute_what_they_declare() -> None:
    declared = tiny_architecture(
        mean=[0, 0, 0],
        deviation=[1, 1, 1],
        layers=[
            {"type": "convolution", "channels": 3, "kernel": 1},
            {"type": "global_pooling", "kind": "average"},
        ],
    )
    layers = build(declared)
    layers.load_state_dict({"0.weight": torch.eye(3).view(3, 3, 1, 1), "0.bias": torch.zeros(3)})
    image = np.zeros((1, 16, 16, 3), np.uint8)
    image[0, :8] = (255, 0, 51)
    vectors = Network(declared, layers).encode(image)
    np.testing.assert_allclose(vectors, [[0.5, 0, 0.1]], atol=1e-4)


def test_feature_maps_are_the_outputs_of_the_layers(batch: Any) -> None:
    network = tiny_network(mirrored=False)
    maps = network.feature_maps(batch[0])
    assert [tuple(values.shape) for values in maps] == [
        (4, 16, 16),
        (4, 16, 16),
        (4, 8, 8),
        (4, 8, 8),
        (4, 4, 4),
        (64,),
        (8,),
    ]
    assert torch.equal(maps[1], maps[0].clamp(min=0))
    np.testing.assert_allclose(maps[-1].numpy(), network.encode(batch[:1])[0], atol=1e-4)


def test_a_vector_depends_on_its_own_image_alone(batch: Any) -> None:
    network = tiny_network()
    together = network.encode(batch)
    alone = np.concatenate([network.encode(row[None]) for row in batch])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    many = network.encode(np.tile(batch, (20, 1, 1, 1)))  # more than one chunk
    np.testing.assert_allclose(many[-9:], together, atol=1e-4)


def test_a_mirrored_network_gives_an_image_and_its_mirror_image_one_vector(batch: Any) -> None:
    flipped = batch[:, :, ::-1]
    np.testing.assert_allclose(
        tiny_network().encode(batch), tiny_network().encode(flipped), atol=1e-4
    )
    plain = tiny_network(mirrored=False)
    assert not np.allclose(plain.encode(batch), plain.encode(flipped), atol=1e-3)


def test_several_threads_may_use_a_network(batch: Any) -> None:
    network = tiny_network()
    expected = network.encode(batch)
    with ThreadPoolExecutor(4) as threads:
        for vectors in threads.map(network.encode, [batch] * 16):
            np.testing.assert_allclose(vectors, expected, atol=1e-4)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_an_image_of_any_mode_and_proportion_is_prepared(mode: str) -> None:
    prepared = tiny_network().prepare(Image.new("RGB", (300, 7), "white").convert(mode))
    assert prepared.shape == (16, 16, 3)
    assert prepared.dtype == np.uint8
    assert prepared.min() >= 254


def test_transparent_parts_become_white() -> None:
    invisible = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert (tiny_network().prepare(invisible) == 255).all()
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([0, 0, 0])
    palette.info["transparency"] = 0
    assert (tiny_network().prepare(palette) == 255).all()


def test_an_empty_batch_has_no_vectors() -> None:
    assert tiny_network().encode(np.empty((0, 16, 16, 3), np.uint8)).shape == (0, 8)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 8, 8, 3), np.uint8), ((1, 16, 16, 3), np.float32)]
)
def test_a_batch_of_another_shape_or_dtype_is_refused(shape: tuple[int, ...], dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[n, 16, 16, 3\]"):
        tiny_network().encode(np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop("0.bias"), "missing or unknown tensors 0.bias"),
        (lambda t: t.update(more=torch.zeros(1)), "missing or unknown tensors more"),
        (lambda t: t.update({"0.bias": torch.zeros(5).half()}), r"0.bias is torch.float16 \[5\]"),
        (lambda t: t.update({"0.bias": torch.zeros(4).long()}), "expected float16 or float32"),
        (lambda t: t["6.bias"].fill_(torch.nan), "NaN or infinite"),
        (lambda t: t.update(huge=torch.zeros(100_000)), "larger than the maximum"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, change: Any, complaint: str) -> None:
    rewrite(folder, change)
    with pytest.raises(ValueError, match=complaint):
        Network.load(folder)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\xff" * 64, b"PK\x03\x04"])
def test_other_formats_of_weights_are_refused(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="not a valid safetensors"):
        Network.load(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*architecture.json"):
        Network.load(tmp_path)


def test_a_declaration_that_is_not_text_is_refused(folder: Path) -> None:
    (folder / ARCHITECTURE_FILE).write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="not valid UTF-8"):
        Network.load(folder)
