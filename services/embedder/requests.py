"""The requests to the embedder, and the checks that run before a model sees them."""

from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Protocol

from services.embedder.models.model import ModelInfo
from services.errors import InvalidArgument

MAX_INPUTS = 2048
MAX_TEXT_BYTES = 4 * 2**20


class AudioFile(bytes):
    """The bytes of an audio file. Plain ``bytes`` stand for an image file."""


Input = str | bytes


@dataclass(frozen=True)
class EmbedRequest:
    """A batch to embed.

    Attributes:
        inputs: texts, ``bytes`` of image files, or ``AudioFile`` bytes.
        model: name of a model; empty selects the default model for the inputs' modality.
        task: ``query``, ``document`` or empty; selects the model's prompt.
        dimensions: leading dimensions to keep (Matryoshka); 0 keeps all.
        encoding: ``float32``, ``float16``, ``int8`` or ``binary``.
        normalize: scale every vector to unit length.
        truncate: cut inputs that are too long for the model instead of failing.
        bulk: give interactive requests priority.
        no_store: keep the vectors out of the vector cache.
    """

    inputs: Sequence[Input]
    model: str = ""
    task: str = ""
    dimensions: int = 0
    encoding: str = "float32"
    normalize: bool = True
    truncate: bool = True
    bulk: bool = False
    no_store: bool = False


@dataclass(frozen=True)
class RerankRequest:
    """Texts to score by how well they answer ``query``."""

    query: str
    texts: Sequence[str]
    model: str = ""
    bulk: bool = False


class Truncatable(Protocol):
    """An input that may have been truncated."""

    @property
    def truncated(self) -> bool:
        """Whether the model reads only a part of it."""
        ...


def modality(value: Input) -> str:
    """Return ``text``, ``audio`` or ``image``."""
    if isinstance(value, str):
        return "text"
    return "audio" if isinstance(value, AudioFile) else "image"


def validate(request: EmbedRequest) -> None:
    """Check everything that does not depend on the model.

    Raises:
        InvalidArgument: there are no inputs or too many, or a text is empty or too large.
    """
    validate_count(request.inputs, "inputs")
    for index, value in enumerate(request.inputs):
        if isinstance(value, str):  # spaces have a vector, as with OpenAI
            _validate_text(value, f"inputs[{index}].text", may_be_blank=True)


def validate_rerank(request: RerankRequest) -> None:
    """Check everything that does not depend on the model.

    Raises:
        InvalidArgument: there are no texts or too many, or the query or a text is empty or too
            large.
    """
    _validate_text(request.query, "query")
    validate_count(request.texts, "texts")
    for index, text in enumerate(request.texts):
        _validate_text(text, f"texts[{index}]")


def validate_count(batch: Sized, field: str) -> None:
    """Check the size of a batch; ``field`` names it in the request.

    Raises:
        InvalidArgument: the batch is empty or has more than ``MAX_INPUTS`` items.
    """
    if not batch:
        raise InvalidArgument(
            "EMPTY_BATCH", f"{field} is empty. Send at least one item.", field=field
        )
    if len(batch) > MAX_INPUTS:
        raise InvalidArgument(
            "TOO_MANY_INPUTS",
            f"{field} has {len(batch)} items; a batch takes at most {MAX_INPUTS}.",
            field=field,
            limit=MAX_INPUTS,
        )


def validate_modalities(request: EmbedRequest, info: ModelInfo) -> None:
    """Check that the model takes every input.

    Raises:
        InvalidArgument: the model does not take the modality of an input.
    """
    mixed = len(set(map(modality, request.inputs))) > 1
    for index, value in enumerate(request.inputs):
        if modality(value) in info.modalities:
            continue
        field = f"inputs[{index}]"
        if mixed:
            raise InvalidArgument(
                "MIXED_MODALITIES",
                f"The inputs have several modalities, and {info.name} takes only"
                f" {', '.join(sorted(info.modalities))}. Send one modality per request.",
                field=field,
            )
        raise wrong_modality(info, modality(value), field)


def wrong_modality(info: ModelInfo, wanted: str, field: str) -> InvalidArgument:
    """Return the error for a model that does not take ``wanted`` as input."""
    taken = ", ".join(sorted(info.modalities))
    return InvalidArgument(
        "WRONG_MODALITY",
        f"The model {info.name} does not take {wanted} input; it takes {taken}.",
        field=field,
        model=info.name,
    )


def reject_truncated(inputs: Iterable[tuple[int, Truncatable]], info: ModelInfo) -> None:
    """Check that no input was truncated. Each comes with its index in the request.

    Raises:
        InvalidArgument: an input is too long for the model.
    """
    for index, value in inputs:
        if value.truncated:
            raise InvalidArgument(
                "TEXT_TOO_LONG",
                f"The text has more than the {info.max_tokens} tokens that {info.name} reads."
                " Shorten it, or set truncate to true.",
                field=f"inputs[{index}].text",
                max_tokens=info.max_tokens,
            )


def _validate_text(text: str, field: str, *, may_be_blank: bool = False) -> None:
    if not text or not (may_be_blank or text.strip()):
        raise InvalidArgument("EMPTY_TEXT", "The text is empty.", field=field)
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise InvalidArgument(
            "TEXT_TOO_LARGE",
            f"The text has more than {MAX_TEXT_BYTES} bytes of UTF-8.",
            field=field,
            limit=MAX_TEXT_BYTES,
        )
