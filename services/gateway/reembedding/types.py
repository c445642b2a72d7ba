"""What both kinds of re-embedding share."""

from dataclasses import dataclass

from services.errors import Unavailable
from services.gateway.backends.types import TextModel, Vectors

# Small enough that interactive calls do not wait behind a batch.
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
