"""The project's own image network as a model of the embedder."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from services.embedder.models.layers import kind_of
from services.embedder.models.model import (
    Content,
    LayerOutput,
    ModelInfo,
    ModelLoadError,
    PreparedInput,
    Tokens,
    Vectors,
)
from services.embedder.models.network import ARCHITECTURE_FILE, SHIPPED_FOLDER, Network
from services.embedder.models.runtimes import best_device

DEFAULT_IMAGE_MODEL = "memetwin-convnet"
# An image takes up as much of a batch as a text of this many tokens.
_IMAGE_COST = 128
_FILTER_AXES, _COLOURS = 4, 3  # a filter has channels, colours, height and width


class ConvNetModel:
    """A convolutional network that the project trained, or that ``memetwin train`` wrote."""

    def __init__(self, network: Network, device: str) -> None:
        self._network = network
        self.info = ModelInfo(
            name=network.name,
            modalities=frozenset({"image"}),
            dimensions=network.dimensions,
            max_tokens=0,
            runtime="torch",
            device=device,
            dtype="float32",
            digest=network.digest,
        )

    @classmethod
    def load(cls, name: str) -> "ConvNetModel":
        """Load the shipped network by its name, or a trained one from its folder.

        Raises:
            ModelLoadError: the folder has no valid network.
        """
        device = best_device()
        folder = SHIPPED_FOLDER if name == DEFAULT_IMAGE_MODEL else Path(name)
        try:
            return cls(Network.load(folder, device), device)
        except ValueError as error:
            raise ModelLoadError(f"{name} cannot be loaded: {error}") from error

    @staticmethod
    def matches(name: str) -> bool:
        """Return whether a name is the shipped network's, or the folder of a trained one."""
        return name == DEFAULT_IMAGE_MODEL or (Path(name) / ARCHITECTURE_FILE).is_file()

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        """Resize images to the network's input; ``task`` has no effect."""
        return [self._prepare(content) for content in contents]

    def _prepare(self, content: Content) -> PreparedInput:
        if not isinstance(content, Image.Image):
            raise TypeError("this model takes only images")
        pixels = self._network.prepare(content)
        key = hashlib.sha256(pixels.tobytes()).digest()
        return PreparedInput(pixels, _IMAGE_COST, 1, False, key)

    def encode(self, batch: Sequence[PreparedInput]) -> Vectors:
        """Compute vectors, float32 [n, dimensions], not normalised."""
        return self._network.encode(np.stack([item.payload for item in batch]))

    def feature_maps(self, image: Image.Image) -> tuple[NDArray[np.uint8], list[LayerOutput]]:
        """Return the input of the network, uint8 [side, side, 3], and the output of each layer."""
        pixels = self._network.prepare(image)
        weights = self._network.weights()
        layers = zip(
            self._network.architecture.layers, self._network.feature_maps(pixels), strict=True
        )
        return pixels, [
            LayerOutput(kind_of(layer), output.numpy(), _colour_filters(weights, position))
            for position, (layer, output) in enumerate(layers)
        ]

    def tokenize(self, text: str) -> Tokens:
        """Raise TypeError, because the model takes no text."""
        raise TypeError("this model takes only images")

    def detokenize(self, ids: Sequence[int]) -> str:
        """Raise TypeError, because the model takes no text."""
        raise TypeError("this model takes only images")


def _colour_filters(weights: dict[str, Tensor], position: int) -> NDArray[np.float32] | None:
    """Return the filters of a convolution that reads red, green and blue; None for other layers."""
    weight = weights.get(f"{position}.weight")
    if weight is None or weight.ndim != _FILTER_AXES or weight.shape[1] != _COLOURS:
        return None
    return weight.float().numpy()
