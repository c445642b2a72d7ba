import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from services.embedder.models.model import ModelLoadError
from services.embedder.models.pretrained import file_sha256, load_errors, model_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "1_Pooling" / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("about")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"others"), True),
        (lambda folder: (folder / "1_Pooling" / "config.json").write_text("[]"), True),
        (lambda folder: (folder / "1_Pooling").rename(folder / "2_Pooling"), True),
        (lambda folder: (folder / "code.py").write_text("pass"), True),
        (lambda folder: (folder / "README.md").write_text("more"), False),
    ],
)
def test_a_digest_covers_the_files_that_vectors_depend_on(
    folder: Path, change: Callable[[Path], object], differs: bool
) -> None:
    before = model_digest(str(folder), nn.Identity())
    change(folder)
    assert (model_digest(str(folder), nn.Identity()) != before) is differs


def test_a_model_without_a_folder_is_digested_by_its_weights(tmp_path: Path) -> None:
    def digest(value: float, dtype: torch.dtype = torch.float32) -> str:
        layer = nn.Linear(2, 2)
        layer.load_state_dict({"weight": torch.full((2, 2), value), "bias": torch.zeros(2)})
        return model_digest(str(tmp_path / "not-there"), layer.to(dtype))

    assert digest(1) == digest(1)
    assert len({digest(1), digest(2), digest(1, torch.bfloat16)}) == 3


def test_the_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc" * 100_000)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"abc" * 100_000).hexdigest()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError("no timm"), "m needs a package that is not installed: no timm"),
        (ValueError("set trust_remote_code=True"), "add the model to MEMETWIN_TRUSTED_MODELS"),
        (OSError("404"), "m cannot be loaded: 404"),
    ],
)
def test_errors_say_what_to_do(error: Exception, message: str) -> None:
    with pytest.raises(ModelLoadError, match=message), load_errors("m"):
        raise error
