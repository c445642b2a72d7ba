"""The models that are served, side by side, each behind its batcher."""

import asyncio
import gc
import hashlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from services.embedder.cpu import give_way
from services.embedder.int8_scales import Ranges
from services.embedder.model_version import Version
from services.embedder.models.model import Model, ModelLoadError
from services.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
# So many objects more than before make the garbage collector look at the young ones. A call makes
# many that are gone with it; Python's own 700 are there before a batch is answered.
_YOUNG_OBJECTS = 20_000


@dataclass(frozen=True)
class Spec:
    """A model to serve.

    Attributes:
        name: by which calls ask for it: a folder, or a name that ``load`` knows.
        default_for: the modalities for which an empty name means this one.
        load: loads it, anew each time.
        lazy: whether it is loaded when it is first asked for, not at the start.
    """

    name: str
    default_for: frozenset[str]
    load: Callable[[], Model]
    lazy: bool = False


@dataclass
class Served:
    """A model that is served, is loading (no version, no problem), or could not be loaded."""

    spec: Spec
    version: Version | None = None
    problem: str = ""
    asked: bool = False
    loaded: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def model(self) -> Model | None:
        """The model, if it is loaded."""
        return self.version.model if self.version else None

    @property
    def serving(self) -> bool:
        """Say whether calls are answered; the first one of a lazy model waits for its load."""
        return bool(self.version) or (self.spec.lazy and not self.problem)

    def ready(self) -> Version:
        """Return the version at work.

        Raises:
            Unavailable: it is being loaded, or could not be.
        """
        if self.version:
            return self.version
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
    """All models. Use as ``async with Models(specs, queue_tokens) as models``.

    Args:
        specs: which; they are loaded one after another.
        queue_tokens: tokens that may wait for each.
        exports: folder in which what was found out about a model is kept; None keeps nothing.
    """

    def __init__(
        self, specs: Sequence[Spec], queue_tokens: int, exports: Path | None = None
    ) -> None:
        self._served = {spec.name: Served(spec) for spec in specs}
        self._queue_tokens, self._exports = queue_tokens, exports
        self._one_at_a_time = asyncio.Lock()
        # A thread of its own, because the threads that libraries start in it give way as it does.
        self._loader = ThreadPoolExecutor(1, "load", initializer=give_way)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Models":
        for served in self._served.values():
            if not served.spec.lazy:
                self._ask_for(served)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._loader.shutdown(cancel_futures=True)
        for served in self._served.values():
            if served.version:
                await served.version.close()

    async def ready(self) -> bool:
        """Say whether every model that is the default for something is loaded."""
        return all(one.version for one in self._served.values() if one.spec.default_for)

    def serving(self) -> dict[str, bool]:
        """Say of each model whether its calls are answered."""
        return {name: served.serving for name, served in self._served.items()}

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

    async def version(self, name: str, modality: str = "text") -> Version:
        """Return the version at work, to be held at once; load what nobody asked for before.

        Raises:
            Unavailable: the model is being loaded, or could not be.
        """
        served = self.find(name, modality)
        if served.spec.lazy:
            self._ask_for(served)
            await served.loaded.wait()
        return served.ready()

    def reload(self) -> None:
        """Load what has failed, and what has changed on disk since it was loaded."""
        for served in self._served.values():
            if served.loaded.is_set():
                self._start(self._load_changed(served))

    def _named(self, name: str) -> Served:
        if name in self._served:
            return self._served[name]
        raise NotFound(
            "MODEL_NOT_FOUND",
            f"The models are {', '.join(sorted(self._served))}.",
            field="model",
            model=name,
        )

    def _ask_for(self, served: Served) -> None:
        if not served.asked:
            served.asked = True
            self._start(self._load_changed(served))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load_changed(self, served: Served) -> None:
        async with self._one_at_a_time:
            fingerprint = await self._apart(_fingerprint, served.spec.name)
            if served.version is None or served.version.fingerprint != fingerprint:
                await self._load(served, fingerprint)

    async def _load(self, served: Served, fingerprint: str) -> None:
        """Load a model; what went before it serves on, until it is there or if it fails."""
        name = served.spec.name
        try:
            gc.disable()  # a load makes a million objects that stay
            model = await self._apart(served.spec.load)
            ranges = await self._apart(Ranges.of, model, self._exports)
            version = Version(model, ranges, self._queue_tokens, fingerprint)
            await version.open()
            _set_apart()
            before, served.version = served.version, version
            if before:
                self._start(_let_go(before))
            log.info("model loaded", extra={"model": name, "digest": model.info.digest})
        except ModelLoadError as error:
            served.problem = str(error)
            log.error("a model cannot be loaded: %s", error, extra={"model": name})
        except Exception:
            served.problem = "an error that the log tells"
            log.exception("a model cannot be loaded", extra={"model": name})
        finally:
            gc.enable()
            served.loaded.set()

    async def _apart(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call where it does not keep the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._loader, call, *arguments)


async def _let_go(version: Version) -> None:
    await version.drain()
    del version
    _set_apart()


def _set_apart() -> None:
    """Let the garbage collector pass over what is there now, but first collect what is garbage.

    Models and their libraries are a million objects that stay, and to look at them again and again
    took a tenth of the processor time of a busy service.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


def _fingerprint(name: str) -> str:
    """Name the state of a model's folder, by its files' sizes and times; of others, nothing."""
    folder, total = Path(name).resolve(), hashlib.sha256(name.encode())
    if not folder.is_dir():
        return ""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found = path.stat()
            total.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return total.hexdigest()
