"""The common parts of both kinds of re-embedding."""

from dataclasses import dataclass

from services.errors import Unavailable
from services.gateway.backends.types import TextModel, Vectors

# Batches are so small that interactive calls do not have to wait for one.
BATCH_SIZE = 32


@dataclass(frozen=True)
class Progress:
    """How much of the stored vectors belongs to other models.

    Attributes:
        entries: cache entries of other models.
        chunks: chunks of documents of other models.
    """

    entries: int
    chunks: int


def check_model(vectors: Vectors, model: TextModel) -> None:
    """Raise Unavailable unless ``model`` computed the vectors."""
    if vectors.digest != model.digest:
        raise Unavailable(
            "MODEL_CHANGED", "The embedder loaded another model during the re-embedding."
        )
