import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from services.embedder.models import architecture
from services.embedder.models.network import ARCHITECTURE_FILE, WEIGHTS_FILE, Network, build

TINY: dict[str, Any] = {
    "format": 1,
    "name": "tiny",
    "side": 16,
    "mean": [0.5, 0.5, 0.5],
    "deviation": [0.25, 0.25, 0.25],
    "mirrored": True,
    "layers": [
        {"type": "convolution", "channels": 4, "kernel": 3},
        {"type": "activation", "function": "relu"},
        {"type": "pooling", "kind": "max", "size": 2},
        {"type": "activation", "function": "tanh"},
        {"type": "pooling", "kind": "average", "size": 2},
        {"type": "flatten"},
        {"type": "dense", "units": 8},
    ],
}


def tiny(**changes: Any) -> Network:
    declared = architecture.parse(json.dumps(TINY | changes))
    torch.manual_seed(3)
    return Network(declared, build(declared))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny().save(tmp_path)
    return tmp_path


@pytest.fixture
def batch() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 256, (9, 16, 16, 3), np.uint8)


def rewrite(folder: Path, change: Any) -> None:
    tensors = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    change(tensors)
    safetensors.torch.save_file(tensors, folder / WEIGHTS_FILE)


def test_what_is_saved_loads_with_the_same_digest_and_vectors(folder: Path, batch: Any) -> None:
    first, again = Network.load(folder), Network.load(folder)
    assert (first.name, first.side, first.dimensions) == ("tiny", 16, 8)
    assert first.digest == again.digest == tiny().digest
    assert (first.encode(batch) == again.encode(batch)).all()
    np.testing.assert_allclose(first.encode(batch), tiny().encode(batch), atol=5e-3)  # float16


def test_a_changed_weight_or_declaration_changes_the_digest(folder: Path) -> None:
    before = Network.load(folder).digest
    rewrite(folder, lambda tensors: tensors["0.bias"].add_(1))
    after = Network.load(folder).digest
    (folder / ARCHITECTURE_FILE).write_text(json.dumps(TINY | {"mirrored": False}))
    assert len({before, after, Network.load(folder).digest}) == 3


def test_the_layers_compute_what_they_say() -> None:
    declared = architecture.parse(
        json.dumps(
            TINY
            | {"mean": [0, 0, 0], "deviation": [1, 1, 1]}
            | {
                "layers": [
                    {"type": "convolution", "channels": 3, "kernel": 1},
                    {"type": "global_pooling", "kind": "average"},
                ]
            }
        )
    )
    layers = build(declared)
    layers.load_state_dict({"0.weight": torch.eye(3).view(3, 3, 1, 1), "0.bias": torch.zeros(3)})
    picture = np.zeros((1, 16, 16, 3), np.uint8)
    picture[0, :8] = (255, 0, 51)
    np.testing.assert_allclose(
        Network(declared, layers).encode(picture), [[0.5, 0, 0.1]], atol=1e-6
    )


def test_a_vector_depends_on_its_own_picture_only(batch: Any) -> None:
    network = tiny()
    together = network.encode(batch)
    alone = np.concatenate([network.encode(row[None]) for row in batch])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    many = network.encode(np.tile(batch, (20, 1, 1, 1)))  # more than one chunk
    np.testing.assert_allclose(many[-9:], together, atol=1e-5)


def test_a_mirrored_network_gives_mirror_images_one_vector(batch: Any) -> None:
    flipped = batch[:, :, ::-1]
    np.testing.assert_allclose(tiny().encode(batch), tiny().encode(flipped), atol=1e-5)
    plain = tiny(mirrored=False)
    assert not np.allclose(plain.encode(batch), plain.encode(flipped), atol=1e-3)


def test_threads_may_share_a_network(batch: Any) -> None:
    network = tiny()
    expected = network.encode(batch)
    with ThreadPoolExecutor(4) as threads:
        for vectors in threads.map(network.encode, [batch] * 16):
            np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_and_proportion_is_prepared(mode: str) -> None:
    prepared = tiny().prepare(Image.new("RGB", (300, 7), "white").convert(mode))
    assert prepared.shape == (16, 16, 3)
    assert prepared.dtype == np.uint8
    assert prepared.min() >= 254


def test_what_is_transparent_shows_white() -> None:
    invisible = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert (tiny().prepare(invisible) == 255).all()
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([0, 0, 0])
    palette.info["transparency"] = 0
    assert (tiny().prepare(palette) == 255).all()


def test_no_pictures_give_no_vectors() -> None:
    assert tiny().encode(np.empty((0, 16, 16, 3), np.uint8)).shape == (0, 8)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 8, 8, 3), np.uint8), ((1, 16, 16, 3), np.float32)]
)
def test_other_arrays_are_refused(shape: tuple[int, ...], dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[n, 16, 16, 3\]"):
        tiny().encode(np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop("0.bias"), "missing or unknown tensors 0.bias"),
        (lambda t: t.update(more=torch.zeros(1)), "missing or unknown tensors more"),
        (lambda t: t.update({"0.bias": torch.zeros(5).half()}), r"0.bias is torch.float16 \[5\]"),
        (lambda t: t.update({"0.bias": torch.zeros(4).long()}), "expected float16 or float32"),
        (lambda t: t["6.bias"].fill_(torch.nan), "NaN or infinity"),
        (lambda t: t.update(huge=torch.zeros(100_000)), "larger than"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, change: Any, complaint: str) -> None:
    rewrite(folder, change)
    with pytest.raises(ValueError, match=complaint):
        Network.load(folder)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\xff" * 64, b"PK\x03\x04"])
def test_other_files_are_refused(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="no valid safetensors"):
        Network.load(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*architecture.json"):
        Network.load(tmp_path)


def test_a_declaration_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / ARCHITECTURE_FILE).write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="no UTF-8"):
        Network.load(folder)
