"""The models that are served, side by side, each behind its batcher."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.embedder.batcher import Batcher
from services.embedder.models.model import CannotLoad, Model
from services.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Spec:
    """A model to serve: its name, what it is the default for, and how to load it."""

    name: str
    default_for: frozenset[str]
    load: Callable[[], Model]


@dataclass
class Served:
    """A model that is served, is loading (no model, no problem), or could not be loaded."""

    spec: Spec
    model: Model | None = None
    batcher: Batcher | None = None
    problem: str = ""
    loaded: asyncio.Event = field(default_factory=asyncio.Event)

    def ready(self) -> tuple[Model, Batcher]:
        """Return the model and its queue.

        Raises:
            Unavailable: it is being loaded, or could not be.
        """
        if self.model and self.batcher:
            return self.model, self.batcher
        if self.problem:
            raise Unavailable(
                "MODEL_FAILED",
                "The model could not be loaded; the embedder's log says why.",
                model=self.spec.name,
            )
        raise Unavailable(
            "MODEL_LOADING", "The model is being loaded.", retry_after=2.0, model=self.spec.name
        )


class Models:
    """All models. Use as ``async with Models(specs, queue_tokens) as models``."""

    def __init__(self, specs: Sequence[Spec], queue_tokens: int) -> None:
        self._served = {spec.name: Served(spec) for spec in specs}
        self._queue_tokens = queue_tokens
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Models":
        self._loading = asyncio.create_task(self._load_all())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._loading
        await self._stack.aclose()

    async def ready(self) -> bool:
        """Say whether every model is loaded."""
        return all(served.model for served in self._served.values())

    def everything(self) -> list[Served]:
        """Return all models in the order of their names."""
        return [self._served[name] for name in sorted(self._served)]

    def find(self, name: str, modality: str = "text") -> Served:
        """Return a model by name, or the default for a modality.

        Raises:
            NotFound: no such model is served.
            InvalidArgument: no model takes the modality.
            FailedPrecondition: there is no reranker.
        """
        if name:
            return self._named(name)
        for served in self._served.values():
            if modality in served.spec.default_for:
                return served
        if modality == "pair":
            raise FailedPrecondition(
                "NO_RERANK_MODEL", "Name a cross-encoder in MEMETWIN_RERANK_MODEL."
            )
        raise InvalidArgument(
            "NO_MODEL_FOR_MODALITY",
            f"No model takes {modality}.",
            field="inputs",
            modality=modality,
        )

    def _named(self, name: str) -> Served:
        if name in self._served:
            return self._served[name]
        raise NotFound(
            "MODEL_NOT_FOUND",
            f"The models are {', '.join(sorted(self._served))}.",
            field="model",
            model=name,
        )

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
