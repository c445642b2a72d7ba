"""Models side by side, each behind its batcher: which one answers, and what it answers."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from services import serving
from services.embedder import encodings, pictures
from services.embedder.batcher import Batcher
from services.embedder.encodings import Packed
from services.embedder.models.model import CannotLoad, Card, Content, Model, Prepared, Tokens
from services.errors import Failure, InvalidArgument, NotFound, Unavailable

log = logging.getLogger(__name__)

INPUTS_LIMIT = 2048
TEXT_BYTES = 4 * 2**20
# Shorter texts are tokenised at once: sending them to another thread would take longer.
_INLINE_CHARACTERS = 2_000


@dataclass(frozen=True)
class Spec:
    """A model to serve: its name, what it is the default for, and how to load it."""

    name: str
    default_for: frozenset[str]
    load: Callable[[], Model]


@dataclass(frozen=True)
class Order:
    """A batch to embed; an input is a text, or the bytes of a picture file."""

    inputs: Sequence[str | bytes]
    model: str = ""
    task: str = ""
    dimensions: int = 0
    encoding: str = "float32"
    normalize: bool = True
    truncate: bool = True
    bulk: bool = False


@dataclass(frozen=True)
class Embedded:
    """A batch, embedded; times are seconds."""

    card: Card
    packed: Packed
    encoding: str
    tokens: list[int]
    truncated: list[bool]
    queue: float
    preprocess: float
    inference: float


@dataclass
class Served:
    """A model that is served, is loading (no model, no problem), or could not be loaded."""

    spec: Spec
    model: Model | None = None
    batcher: Batcher | None = None
    problem: str = ""
    loaded: asyncio.Event = field(default_factory=asyncio.Event)


class Embedding:
    """All models. Use as ``async with Embedding(specs, queue_tokens) as embedding``."""

    def __init__(self, specs: Sequence[Spec], queue_tokens: int) -> None:
        self._served = {spec.name: Served(spec) for spec in specs}
        self._queue_tokens = queue_tokens
        self._threads = ThreadPoolExecutor(thread_name_prefix="prepare")
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Embedding":
        self._loading = asyncio.create_task(self._load_all())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._loading
        await self._stack.aclose()
        self._threads.shutdown()

    async def ready(self) -> bool:
        """Say whether every model is loaded."""
        return all(served.model for served in self._served.values())

    def models(self) -> list[Served]:
        """Return all models in the order of their names."""
        return [self._served[name] for name in sorted(self._served)]

    def model(self, name: str, modality: str = "text") -> Served:
        """Return a model by name, or the default for a modality.

        Raises:
            NotFound: no such model is served.
            InvalidArgument: no model takes the modality.
        """
        if name:
            if name not in self._served:
                raise NotFound(
                    "MODEL_NOT_FOUND",
                    f"The models are {', '.join(sorted(self._served))}.",
                    field="model",
                    model=name,
                )
            return self._served[name]
        for served in self._served.values():
            if modality in served.spec.default_for:
                return served
        raise InvalidArgument(
            "NO_MODEL_FOR_MODALITY",
            f"No model takes {modality}.",
            field="inputs",
            modality=modality,
        )

    async def embed(self, order: Order) -> Embedded:
        """Embed a batch, all or nothing."""
        _check_inputs(order)
        model, batcher = _loaded(self._choose(order))
        started = time.perf_counter()
        items = await self._prepare(model, order)
        preprocess = time.perf_counter() - started
        if not order.truncate:
            _refuse_cut(items, model)
        encodings.check_dimensions(order.dimensions, model.card.dimensions)
        computed = await batcher.submit(items, bulk=order.bulk, within=serving.time_left())
        rows = encodings.shape(computed.rows, order.dimensions, normalize=order.normalize)
        return Embedded(
            card=model.card,
            packed=encodings.pack(rows, order.encoding),
            encoding=order.encoding,
            tokens=[item.tokens for item in items],
            truncated=[item.truncated for item in items],
            queue=computed.queue,
            preprocess=preprocess,
            inference=computed.inference,
        )

    async def tokenize(self, name: str, texts: Sequence[str]) -> tuple[Card, list[Tokens]]:
        """Return where the tokens of texts lie."""
        if not texts:
            raise InvalidArgument("EMPTY_BATCH", "texts is empty.", field="texts")
        if len(texts) > INPUTS_LIMIT:
            raise _too_many("texts")
        model, _ = _loaded(self.model(name))
        if "text" not in model.card.modalities:
            raise _not_taken(model, "text", "model")
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, lambda: list(map(model.tokenize, texts)))
        return model.card, found

    def _choose(self, order: Order) -> Served:
        kinds = {_modality(value) for value in order.inputs}
        served = self.model(order.model, min(kinds))
        card = served.model.card if served.model else None
        for number, value in enumerate(order.inputs):
            if card and _modality(value) not in card.modalities:
                place = f"inputs[{number}]"
                if len(kinds) > 1:
                    raise InvalidArgument(
                        "MIXED_MODALITIES",
                        f"{card.name} does not take texts and pictures at once.",
                        field=place,
                    )
                raise _not_taken(served.model, _modality(value), place)
        return served

    async def _prepare(self, model: Model, order: Order) -> list[Prepared]:
        texts = [value for value in order.inputs if isinstance(value, str)]
        if len(texts) == len(order.inputs) and sum(map(len, texts)) <= _INLINE_CHARACTERS:
            return model.prepare(texts, order.task)
        loop = asyncio.get_running_loop()
        calls = [
            loop.run_in_executor(self._threads, _prepare_some, model, order, first)
            for first in range(0, len(order.inputs), _SHARE)
        ]
        return [item for part in await asyncio.gather(*calls) for item in part]

    async def _load_all(self) -> None:
        for served in self._served.values():
            await self._load(served)

    async def _load(self, served: Served) -> None:
        name = served.spec.name
        try:
            model = await asyncio.to_thread(served.spec.load)
            served.batcher = await self._stack.enter_async_context(
                Batcher(model, self._queue_tokens)
            )
            served.model = model
            log.info("model loaded", extra={"model": name, "digest": model.card.digest})
        except CannotLoad as error:
            served.problem = str(error)
            log.error("a model cannot be loaded: %s", error, extra={"model": name})
        except Exception:
            served.problem = "an error that the log tells"
            log.exception("a model cannot be loaded", extra={"model": name})
        finally:
            served.loaded.set()


_SHARE = 64


def _prepare_some(model: Model, order: Order, first: int) -> list[Prepared]:
    contents = order.inputs[first : first + _SHARE]
    return model.prepare(
        [_content(value, f"inputs[{first + n}]") for n, value in enumerate(contents)], order.task
    )


def _content(value: str | bytes, place: str) -> Content:
    return value if isinstance(value, str) else pictures.decode(value, f"{place}.image")


def _modality(value: str | bytes) -> str:
    return "text" if isinstance(value, str) else "image"


def _loaded(served: Served) -> tuple[Model, Batcher]:
    if served.model and served.batcher:
        return served.model, served.batcher
    if served.problem:
        raise Unavailable(
            "MODEL_FAILED",
            "The model could not be loaded; the embedder's log says why.",
            model=served.spec.name,
        )
    raise Unavailable(
        "MODEL_LOADING", "The model is being loaded.", retry_after=2.0, model=served.spec.name
    )


def _check_inputs(order: Order) -> None:
    if not order.inputs:
        raise InvalidArgument("EMPTY_BATCH", "inputs is empty.", field="inputs")
    if len(order.inputs) > INPUTS_LIMIT:
        raise _too_many("inputs")
    for number, value in enumerate(order.inputs):
        if isinstance(value, str):
            _check_text(value, f"inputs[{number}].text")


def _check_text(text: str, place: str) -> None:
    if not text.strip():
        raise InvalidArgument("EMPTY_TEXT", "The text is empty.", field=place)
    if len(text.encode()) > TEXT_BYTES:
        raise InvalidArgument(
            "TEXT_TOO_LARGE",
            f"The text has over {TEXT_BYTES} bytes.",
            field=place,
            limit=TEXT_BYTES,
        )


def _refuse_cut(items: Sequence[Prepared], model: Model) -> None:
    for number, item in enumerate(items):
        if item.truncated:
            raise InvalidArgument(
                "TEXT_TOO_LONG",
                f"The text has more than the {model.card.max_tokens} tokens that"
                f" {model.card.name} reads: shorten it, or let truncate be true.",
                field=f"inputs[{number}].text",
                max_tokens=model.card.max_tokens,
            )


def _too_many(place: str) -> InvalidArgument:
    return InvalidArgument(
        "TOO_MANY_INPUTS", f"A batch has at most {INPUTS_LIMIT}.", field=place, limit=INPUTS_LIMIT
    )


def _not_taken(model: Model | None, modality: str, place: str) -> Failure:
    name = model.card.name if model else ""
    return InvalidArgument(
        "WRONG_MODALITY", f"{name} takes no {modality}.", field=place, model=name
    )


async def ordered(
    orders: AsyncIterator[Order], embedding: Embedding, flight: int = 8
) -> AsyncIterator[Embedded | Failure]:
    """Embed a stream of batches, ``flight`` at a time, and answer in their order."""
    tasks: asyncio.Queue[asyncio.Task[Embedded] | None] = asyncio.Queue(flight)

    async def feed() -> None:
        try:
            async for order in orders:
                await tasks.put(asyncio.create_task(embedding.embed(order)))
        finally:
            await tasks.put(None)

    feeder = asyncio.create_task(feed())
    try:
        while (task := await tasks.get()) is not None:
            try:
                yield await task
            except Failure as failure:
                yield failure
        await feeder
    finally:
        feeder.cancel()
        while not tasks.empty():
            left = tasks.get_nowait()
            if left:
                left.cancel()
