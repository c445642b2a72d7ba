"""A runtime whose vectors are random, but fixed for each text."""

from collections.abc import Sequence

import numpy as np

from services.embedder.models.model import Vectors
from services.embedder.models.runtimes import TokenIds


class NoisyRuntime:
    """Computes a fixed vector for each text, with noise.

    Args:
        name: name of the runtime.
        noise: share of noise that depends only on the text.
        batch_noise: share of noise for each text in the batch.
    """

    dtype = "float32"
    workers = 2
    batch_tokens = 1024

    def __init__(self, name: str, noise: float = 0.0, batch_noise: float = 0.0) -> None:
        self.name, self._noise, self._batch_noise = name, noise, batch_noise

    def compute(self, batch: Sequence[TokenIds]) -> Vectors:
        exact = [np.random.default_rng(list(tokens)).normal(size=64) for tokens in batch]
        noise = [np.random.default_rng([9, *tokens]).normal(size=64) for tokens in batch]
        share = self._noise + self._batch_noise * len(batch)
        return np.array(exact, np.float32) + np.float32(share) * np.array(noise, np.float32)
