"""The project's own image network as a model of the embedder."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.embedder.models.model import Content, ModelInfo, ModelLoadError, PreparedInput, Tokens
from services.embedder.models.network import ARCHITECTURE, SHIPPED, Network
from services.embedder.models.runtimes import best_device

DEFAULT_IMAGE_MODEL = "memetwin-convnet"
_COST = 128


class ConvNetModel:
    """A network of our own making."""

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
        """Load the shipped network, or one that ``memetwin train`` wrote into a folder.

        Raises:
            ModelLoadError: the folder holds no network that can be trusted.
        """
        device = best_device()
        folder = SHIPPED if name == DEFAULT_IMAGE_MODEL else Path(name)
        try:
            return cls(Network.load(folder, device), device)
        except ValueError as error:
            raise ModelLoadError(f"{name} cannot be loaded: {error}") from error

    @staticmethod
    def owns(name: str) -> bool:
        """Say whether a name means a network of ours."""
        return name == DEFAULT_IMAGE_MODEL or (Path(name) / ARCHITECTURE).is_file()

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        """Shrink pictures to the network's input."""
        return [self._prepare(content) for content in contents]

    def _prepare(self, content: Content) -> PreparedInput:
        if not isinstance(content, Image.Image):
            raise TypeError("this network takes pictures alone")
        pixels = self._network.prepare(content)
        return PreparedInput(pixels, _COST, 1, False, hashlib.sha256(pixels.tobytes()).digest())

    def encode(self, batch: Sequence[PreparedInput]) -> NDArray[np.float32]:
        """Compute vectors, not normalised."""
        return self._network.encode(np.stack([item.payload for item in batch]))

    def tokenize(self, text: str) -> Tokens:
        """Fail: pictures have no tokens."""
        raise TypeError("this network takes no text")
