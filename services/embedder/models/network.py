"""The project's own image network: a picture in, a vector out.

Convolutions look for patterns, ReLU keeps what they find, pooling shrinks it, flattening and a
dense layer turn it into a vector. The layers are declared in ``architecture.json`` (see
architecture.py), their weights lie in ``model.safetensors``; nothing in a model's folder is ever
executed.
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

from services.embedder.models import architecture as declared
from services.embedder.models import layers as kinds
from services.embedder.models.architecture import Architecture

ARCHITECTURE = "architecture.json"
WEIGHTS = "model.safetensors"
SHIPPED = Path(__file__).parent / "shipped" / "memetwin-convnet"

_MAX_ARCHITECTURE_BYTES = 64 * 1024
_MAX_HEADER_BYTES = 64 * 1024
_STORED = (torch.float16, torch.float32)
_CHUNK = 64  # pictures at once: more gains nothing on a CPU and costs memory
_ACTIVATIONS = {"linear": nn.Identity, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


class Network:
    """A network ready to encode; safe to use from several threads.

    Attributes:
        name: the declared name.
        side: pixels of each side of the square input.
        dimensions: length of the vectors.
        digest: sha256 (hex) over the declaration and the weights, as they are stored.
        architecture: the declaration.
    """

    def __init__(self, architecture: Architecture, layers: nn.Sequential, device: str = "cpu"):
        """Take layers made by ``build`` for the same declaration."""
        self.architecture = architecture
        self.name = architecture.name
        self.side = architecture.side
        self.dimensions = architecture.dimensions
        self.digest = _digest(*_files(architecture, layers))
        self._device = torch.device(device)
        self._layers = layers
        stack = nn.Sequential(_Colours(architecture), layers).eval().requires_grad_(False)
        self._stack = stack.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Load ``architecture.json`` and ``model.safetensors`` from a folder.

        Raises:
            ValueError: a file is missing or too large, the declaration cannot be built, or a
                tensor's name, shape, type or value is not what the declaration asks for.
        """
        text = _read(folder / ARCHITECTURE, _MAX_ARCHITECTURE_BYTES)
        try:
            architecture = declared.parse(text.decode())
        except UnicodeDecodeError as error:
            raise ValueError(f"{folder / ARCHITECTURE} is no UTF-8 text") from error
        with torch.device("meta"):  # names and shapes only: memory is taken by the checked tensors
            layers = build(architecture)
        expected = layers.state_dict()
        most = _MAX_HEADER_BYTES + 4 * sum(tensor.numel() for tensor in expected.values())
        weights = _read(folder / WEIGHTS, most)
        layers.load_state_dict(_tensors(weights, expected), assign=True)
        network = cls(architecture, layers, device)
        network.digest = _digest(text, weights)
        return network

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Turn a picture of any size into the network's input.

        The whole picture is stretched to a square: nothing is cut off, and training has seen it so.
        Transparent parts show white.

        Args:
            image: a decoded picture of any mode, upright.

        Returns:
            uint8 array [side, side, 3].
        """
        size = (self.side, self.side)
        opaque = over_white(image)
        return np.asarray(opaque.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))

    def encode(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode prepared pictures.

        Args:
            batch: uint8 array [n, side, side, 3].

        Returns:
            float32 array [n, dimensions]; not normalised; a row depends on its own picture only.

        Raises:
            ValueError: the array has another shape or type.
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
                pictures = torch.tensor(part, device=self._device)
                vectors[start : start + _CHUNK] = self._vectors(pictures).cpu().numpy()
        return vectors

    def _vectors(self, pictures: Tensor) -> Tensor:
        planes = pictures.permute(0, 3, 1, 2).float()
        vectors: Tensor = self._stack(planes)
        if self.architecture.mirrored:
            vectors = (vectors + self._stack(planes.flip(3))) / 2
        return vectors

    def seen(self, prepared: NDArray[np.uint8]) -> list[Tensor]:
        """Return what each declared layer makes of a prepared picture.

        Args:
            prepared: uint8 array [side, side, 3].

        Returns:
            For each layer float32 [channels, height, width], or [length] where it is a vector.
        """
        colours, layers = self._stack
        values = torch.tensor(prepared, device=self._device).permute(2, 0, 1)[None].float()
        values, found = colours(values), []
        with torch.inference_mode():
            for layer in layers:
                values = layer(values)
                found.append(values[0].cpu())
        return found

    def weights(self) -> dict[str, Tensor]:
        """Return the learned tensors, ``<layer's position>.<weight or bias>``."""
        return {name: tensor.cpu() for name, tensor in self._layers.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Write the declaration and the weights (as float16) into a folder, made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        text, weights = _files(self.architecture, self._layers)
        (folder / ARCHITECTURE).write_bytes(text)
        (folder / WEIGHTS).write_bytes(weights)


def build(architecture: Architecture) -> nn.Sequential:
    """Make the declared layers, with random weights, in the declaration's order.

    The state's names are the declaration's: ``<position>.weight`` and ``<position>.bias``.
    """
    return nn.Sequential(*(_module(layer, shape) for layer, shape in architecture.inputs()))


def _module(layer: kinds.Layer, shape: kinds.Shape) -> nn.Module:
    match layer:
        case kinds.Convolution(channels, kernel, stride):
            return nn.Conv2d(shape[0], channels, kernel, stride, padding=kernel // 2)
        case kinds.Activation(function):
            return _ACTIVATIONS[function]()
        case kinds.Pooling(kind, size):
            return nn.MaxPool2d(size) if kind == "max" else nn.AvgPool2d(size)
        case kinds.GlobalPooling(kind):
            pool = nn.AdaptiveMaxPool2d(1) if kind == "max" else nn.AdaptiveAvgPool2d(1)
            return nn.Sequential(pool, nn.Flatten())
        case kinds.Flatten():
            return nn.Flatten()
        case kinds.Dense(units):
            return nn.Linear(shape[0], units)


class _Colours(nn.Module):
    """Scale pixels (0 to 255) by the declared mean and deviation."""

    scale: Tensor
    shift: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        mean, deviation = torch.tensor(architecture.mean), torch.tensor(architecture.deviation)
        self.register_buffer("scale", (1 / (255 * deviation)).view(3, 1, 1))
        self.register_buffer("shift", (-mean / deviation).view(3, 1, 1))

    def forward(self, planes: Tensor) -> Tensor:
        scaled: Tensor = planes * self.scale + self.shift
        return scaled


def over_white(image: Image.Image) -> Image.Image:
    """Make a picture of any mode RGB; what shows through it is white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    page = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(page, layer).convert("RGB")


def _read(path: Path, most: int) -> bytes:
    """Read a file of at most so many bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > most:
        raise ValueError(f"{path} is larger than the {most:,} bytes that its declaration allows")
    return data


def _tensors(weights: bytes, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parse and check the weights: exactly the expected names, shapes and types, finite values."""
    try:
        tensors = safetensors.torch.load(weights)
    except SafetensorError as error:
        raise ValueError(f"{WEIGHTS} is no valid safetensors file: {error}") from error
    if tensors.keys() != expected.keys():
        odd = ", ".join(sorted(tensors.keys() ^ expected.keys())[:5])
        raise ValueError(f"{WEIGHTS} does not fit {ARCHITECTURE}: missing or unknown tensors {odd}")
    for name, tensor in tensors.items():
        if tensor.dtype not in _STORED or tensor.shape != expected[name].shape:
            raise ValueError(
                f"{WEIGHTS}: {name} is {tensor.dtype} {list(tensor.shape)}, "
                f"expected float16 or float32 {list(expected[name].shape)}"
            )
        if not tensor.isfinite().all():
            raise ValueError(f"{WEIGHTS}: {name} holds NaN or infinity")
    return {name: tensor.float() for name, tensor in tensors.items()}


def _files(architecture: Architecture, layers: nn.Sequential) -> tuple[bytes, bytes]:
    state = {name: tensor.half().cpu() for name, tensor in layers.state_dict().items()}
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    return architecture.to_json().encode(), safetensors.torch.save(state)


def _digest(architecture: bytes, weights: bytes) -> str:
    parts = hashlib.sha256(architecture).digest() + hashlib.sha256(weights).digest()
    return hashlib.sha256(parts).hexdigest()
