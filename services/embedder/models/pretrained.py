"""The common parts of all sentence-transformers models: clear load errors, and a digest."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch

from services.embedder.models.model import ModelLoadError

# The files of a model's folder that its vectors depend on.
_SUFFIXES = (".json", ".safetensors", ".txt", ".bin", ".model", ".py")


@contextlib.contextmanager
def load_errors(name: str) -> Iterator[None]:
    """Turn any error while a model is loaded into a ModelLoadError that says what to do."""
    try:
        yield
    except ImportError as error:
        raise ModelLoadError(f"{name} needs a package that is not installed: {error}") from error
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ModelLoadError(
                f"{name} contains its own code, which the embedder does not run. If you trust"
                " that code, add the model to MEMETWIN_TRUSTED_MODELS."
            ) from error
        raise ModelLoadError(f"{name} cannot be loaded: {error}") from error


def model_digest(folder: str, model: torch.nn.Module) -> str:
    """Compute the sha256 (hex) of everything that a model's vectors depend on.

    Args:
        folder: the model's folder; its files are hashed. If there is no such folder, the loaded
            weights are hashed.
        model: the loaded model.
    """
    digest, path = hashlib.sha256(), Path(folder)
    if not path.is_dir():
        for key, tensor in sorted(model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
    for file in sorted(path.rglob("*")):
        if file.suffix in _SUFFIXES:
            digest.update(file.relative_to(path).as_posix().encode())
            digest.update(bytes.fromhex(file_sha256(file)))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Compute the sha256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
