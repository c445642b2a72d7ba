"""What callers order of the embedder, and what is refused before any model sees it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.embedder.models.model import Model
from services.errors import InvalidArgument

INPUTS_LIMIT = 2048
TEXT_BYTES = 4 * 2**20


class SoundFile(bytes):
    """The bytes of a sound file; plain bytes are those of a picture file."""


@dataclass(frozen=True)
class Order:
    """A batch to embed; an input is a text, or the bytes of a picture or sound file."""

    inputs: Sequence[str | bytes]
    model: str = ""
    task: str = ""
    dimensions: int = 0
    encoding: str = "float32"
    normalize: bool = True
    truncate: bool = True
    bulk: bool = False


@dataclass(frozen=True)
class Ranking:
    """Texts to hold against a question."""

    query: str
    texts: Sequence[str]
    model: str = ""
    bulk: bool = False


class Cut(Protocol):
    """What may have been cut."""

    @property
    def truncated(self) -> bool:
        """Whether it was."""
        ...


def modality(value: str | bytes) -> str:
    """Name the kind of an input."""
    if isinstance(value, str):
        return "text"
    return "audio" if isinstance(value, SoundFile) else "image"


def check(order: Order) -> None:
    """Raise InvalidArgument for inputs that no model could take."""
    if not order.inputs:
        raise InvalidArgument("EMPTY_BATCH", "inputs is empty.", field="inputs")
    if len(order.inputs) > INPUTS_LIMIT:
        raise too_many("inputs")
    for number, value in enumerate(order.inputs):
        if isinstance(value, str):
            check_text(value, f"inputs[{number}].text")


def check_kinds(order: Order, model: Model) -> None:
    """Raise InvalidArgument if the model does not take an input's kind."""
    several = len(set(map(modality, order.inputs))) > 1
    for number, value in enumerate(order.inputs):
        if modality(value) in model.info.modalities:
            continue
        place = f"inputs[{number}]"
        if several:
            raise InvalidArgument(
                "MIXED_MODALITIES",
                f"{model.info.name} does not take all of these kinds.",
                field=place,
            )
        raise not_taken(model, modality(value), place)


def check_text(text: str, place: str) -> None:
    """Raise InvalidArgument for a text that is empty or too large."""
    if not text.strip():
        raise InvalidArgument("EMPTY_TEXT", "The text is empty.", field=place)
    if len(text.encode()) > TEXT_BYTES:
        raise InvalidArgument(
            "TEXT_TOO_LARGE",
            f"The text has over {TEXT_BYTES} bytes.",
            field=place,
            limit=TEXT_BYTES,
        )


def refuse_cut(inputs: Iterable[tuple[int, Cut]], model: Model) -> None:
    """Raise InvalidArgument if one of the inputs, given with their places, was cut."""
    for number, one in inputs:
        if one.truncated:
            raise InvalidArgument(
                "TEXT_TOO_LONG",
                f"The text has more than the {model.info.max_tokens} tokens that"
                f" {model.info.name} reads: shorten it, or let truncate be true.",
                field=f"inputs[{number}].text",
                max_tokens=model.info.max_tokens,
            )


def too_many(place: str) -> InvalidArgument:
    """Say that a batch is too large."""
    return InvalidArgument(
        "TOO_MANY_INPUTS", f"A batch has at most {INPUTS_LIMIT}.", field=place, limit=INPUTS_LIMIT
    )


def not_taken(model: Model, kind: str, place: str) -> InvalidArgument:
    """Say that a model takes no such input."""
    name = model.info.name
    return InvalidArgument("WRONG_MODALITY", f"{name} takes no {kind}.", field=place, model=name)


def check_ranking(ranking: Ranking) -> None:
    """Raise InvalidArgument for texts that no model could rank."""
    check_text(ranking.query, "query")
    if not ranking.texts:
        raise InvalidArgument("EMPTY_BATCH", "texts is empty.", field="texts")
    if len(ranking.texts) > INPUTS_LIMIT:
        raise too_many("texts")
    for number, text in enumerate(ranking.texts):
        check_text(text, f"texts[{number}]")
