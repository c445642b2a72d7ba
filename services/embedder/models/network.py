"""The project's own convolutional image network, which turns an image into a vector.

A folder holds the layers in ``architecture.json`` (see architecture.py) and their weights in
``model.safetensors``. Loading never executes anything in a model's folder.
"""

import hashlib
from pathlib import Path
from typing import Self

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from services.embedder.models import architecture as architectures
from services.embedder.models import layers as declared
from services.embedder.models.architecture import Architecture

ARCHITECTURE_FILE = "architecture.json"
WEIGHTS_FILE = "model.safetensors"
SHIPPED_FOLDER = Path(__file__).parent / "shipped" / "memetwin-convnet"

_MAX_ARCHITECTURE_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 64 * 1024
_STORED_DTYPES = (torch.float16, torch.float32)
_CHUNK = 64  # images per forward pass; more are not faster on a CPU and take more memory
_ACTIVATIONS = {"linear": nn.Identity, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


class Network:
    """A network in evaluation mode; several threads may use it.

    Args:
        architecture: the declaration.
        layers: the layers that ``build`` returned for the same declaration.
        device: of torch.

    Attributes:
        name: the declared name.
        side: width and height of the input in pixels.
        dimensions: length of the vectors.
        digest: sha256 (hex) of the declaration and the weights, as they are stored.
        architecture: the declaration.
    """

    def __init__(self, architecture: Architecture, layers: nn.Sequential, device: str = "cpu"):
        self.architecture = architecture
        self.name = architecture.name
        self.side = architecture.side
        self.dimensions = architecture.dimensions
        self.digest = _digest(*_files(architecture, layers))
        self._device = torch.device(device)
        self._layers = layers
        stack = nn.Sequential(_Standardise(architecture), layers).eval().requires_grad_(False)
        self._stack = stack.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Load ``architecture.json`` and ``model.safetensors`` from a folder.

        Raises:
            ValueError: a file is missing or too large, the declared network cannot be built, or
                the weights do not fit the declaration.
        """
        text = _read(folder / ARCHITECTURE_FILE, _MAX_ARCHITECTURE_BYTES)
        try:
            architecture = architectures.parse(text.decode())
        except UnicodeDecodeError as error:
            raise ValueError(f"{folder / ARCHITECTURE_FILE} is not valid UTF-8") from error
        with torch.device("meta"):  # only names and shapes; only checked tensors take memory
            layers = build(architecture)
        expected = layers.state_dict()
        max_bytes = _MAX_HEADER_BYTES + 4 * sum(tensor.numel() for tensor in expected.values())
        weights = _read(folder / WEIGHTS_FILE, max_bytes)
        layers.load_state_dict(_parse_weights(weights, expected), assign=True)
        network = cls(architecture, layers, device)
        network.digest = _digest(text, weights)
        return network

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Turn an image of any size into the network's input.

        The image is stretched to a square, as in training. Transparent parts become white.

        Args:
            image: a decoded image of any mode, upright.

        Returns:
            uint8 [side, side, 3].
        """
        size = (self.side, self.side)
        opaque = flatten_onto_white(image)
        return np.asarray(opaque.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))

    def encode(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode prepared images.

        Args:
            batch: uint8 [n, side, side, 3].

        Returns:
            float32 [n, dimensions], not normalised. A row depends only on its own image.

        Raises:
            ValueError: the batch has another shape or dtype.
        """
        expected = (self.side, self.side, 3)
        if batch.dtype != np.uint8 or batch.shape[1:] != expected:
            raise ValueError(
                f"expected uint8 [n, {self.side}, {self.side}, 3], got {batch.dtype} {batch.shape}"
            )
        vectors = np.empty((len(batch), self.dimensions), np.float32)
        with torch.inference_mode():
            for start in range(0, len(batch), _CHUNK):
                part = np.ascontiguousarray(batch[start : start + _CHUNK])
                images = torch.tensor(part, device=self._device)
                vectors[start : start + _CHUNK] = self._vectors(images).cpu().numpy()
        return vectors

    def _vectors(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2).float()
        vectors: Tensor = self._stack(pixels)
        if self.architecture.mirrored:
            vectors = (vectors + self._stack(pixels.flip(3))) / 2
        return vectors

    def feature_maps(self, prepared: NDArray[np.uint8]) -> list[Tensor]:
        """Return the output of each declared layer for a prepared image.

        Args:
            prepared: uint8 [side, side, 3].

        Returns:
            For each layer, float32 [channels, height, width], or [length] for a vector.
        """
        standardise, layers = self._stack
        values = torch.tensor(prepared, device=self._device).permute(2, 0, 1)[None].float()
        values, outputs = standardise(values), []
        with torch.inference_mode():
            for layer in layers:
                values = layer(values)
                outputs.append(values[0].cpu())
        return outputs

    def weights(self) -> dict[str, Tensor]:
        """Return the parameters by ``<layer's position>.<weight or bias>``."""
        return {name: tensor.cpu() for name, tensor in self._layers.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Write the declaration, and the weights as float16, into a folder; create it if needed."""
        folder.mkdir(parents=True, exist_ok=True)
        text, weights = _files(self.architecture, self._layers)
        (folder / ARCHITECTURE_FILE).write_bytes(text)
        (folder / WEIGHTS_FILE).write_bytes(weights)


def build(architecture: Architecture) -> nn.Sequential:
    """Build the declared layers, in order, with random weights.

    The keys of the state dict are ``<position>.weight`` and ``<position>.bias``.
    """
    layers = architecture.layers_with_input_shapes()
    return nn.Sequential(*(build_layer(layer, shape) for layer, shape in layers))


def build_layer(layer: declared.Layer, input_shape: declared.Shape) -> nn.Module:
    """Build one layer, with random weights."""
    match layer:
        case declared.Convolution(channels, kernel, stride):
            return nn.Conv2d(input_shape[0], channels, kernel, stride, padding=kernel // 2)
        case declared.Activation(function):
            return _ACTIVATIONS[function]()
        case declared.Pooling(kind, size):
            return nn.MaxPool2d(size) if kind == "max" else nn.AvgPool2d(size)
        case declared.GlobalPooling(kind):
            pool = nn.AdaptiveMaxPool2d(1) if kind == "max" else nn.AdaptiveAvgPool2d(1)
            return nn.Sequential(pool, nn.Flatten())
        case declared.Flatten():
            return nn.Flatten()
        case declared.Dense(units):
            return nn.Linear(input_shape[0], units)


class _Standardise(nn.Module):
    """Subtract the declared mean from pixels of 0 to 255, and divide by the deviation."""

    scale: Tensor
    shift: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        mean, deviation = torch.tensor(architecture.mean), torch.tensor(architecture.deviation)
        self.register_buffer("scale", (1 / (255 * deviation)).view(3, 1, 1))
        self.register_buffer("shift", (-mean / deviation).view(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        standardised: Tensor = pixels * self.scale + self.shift
        return standardised


def flatten_onto_white(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB; transparent parts become white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    foreground = image.convert("RGBA")
    background = Image.new("RGBA", foreground.size, "white")
    return Image.alpha_composite(background, foreground).convert("RGB")


def _read(path: Path, max_bytes: int) -> bytes:
    """Read a file, but never more than ``max_bytes`` plus one byte of it."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > max_bytes:
        raise ValueError(f"{path} is larger than the maximum of {max_bytes:,} bytes")
    return data


def _parse_weights(weights: bytes, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parse weights; check their names, shapes and dtypes, and that all values are finite."""
    try:
        tensors = safetensors.torch.load(weights)
    except SafetensorError as error:
        raise ValueError(f"{WEIGHTS_FILE} is not a valid safetensors file: {error}") from error
    if tensors.keys() != expected.keys():
        differing = ", ".join(sorted(tensors.keys() ^ expected.keys())[:5])
        raise ValueError(
            f"{WEIGHTS_FILE} does not fit {ARCHITECTURE_FILE}: missing or unknown tensors"
            f" {differing}"
        )
    for name, tensor in tensors.items():
        if tensor.dtype not in _STORED_DTYPES or tensor.shape != expected[name].shape:
            raise ValueError(
                f"{WEIGHTS_FILE}: {name} is {tensor.dtype} {list(tensor.shape)}, "
                f"expected float16 or float32 {list(expected[name].shape)}"
            )
        if not tensor.isfinite().all():
            raise ValueError(f"{WEIGHTS_FILE}: {name} has NaN or infinite values")
    return {name: tensor.float() for name, tensor in tensors.items()}


def _files(architecture: Architecture, layers: nn.Sequential) -> tuple[bytes, bytes]:
    """Return the contents of the declaration's and the weights' files."""
    state = {name: tensor.half().cpu() for name, tensor in layers.state_dict().items()}
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    return architecture.to_json().encode(), safetensors.torch.save(state)


def _digest(architecture: bytes, weights: bytes) -> str:
    parts = hashlib.sha256(architecture).digest() + hashlib.sha256(weights).digest()
    return hashlib.sha256(parts).hexdigest()
