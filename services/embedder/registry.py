"""The registry of models: loads them one after another, replaces them, and finds them by name."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from services.embedder import garbage_collector
from services.embedder.cpu import lower_priority
from services.embedder.int8_scales import Int8Scales
from services.embedder.model_version import ModelVersion
from services.embedder.models.model import Model, ModelLoadError
from services.embedder.readability import Readability
from services.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class ModelSpec:
    """A model to serve.

    Attributes:
        name: the name in requests: a folder, or a name that ``load`` knows.
        default_for: modalities for which an empty name in a request selects this model.
        load: loads a new copy of the model.
        lazy: load the model at its first request instead of at startup.
    """

    name: str
    default_for: frozenset[str]
    load: Callable[[], Model]
    lazy: bool = False


@dataclass
class RegisteredModel:
    """A model and its state. Without a version it is loading, not yet requested, or failed.

    Attributes:
        load_requested: whether the first load has started.
        load_finished: set when the first load has succeeded or failed.
        failed: whether a load has failed.
    """

    spec: ModelSpec
    version: ModelVersion | None = None
    failed: bool = False
    load_requested: bool = False
    load_finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def model(self) -> Model | None:
        """The model, or None if it is not loaded."""
        return self.version.model if self.version else None

    @property
    def available(self) -> bool:
        """Whether calls are served; the first call of a lazy model waits for its load."""
        return bool(self.version) or (self.spec.lazy and not self.failed)

    def current_version(self) -> ModelVersion:
        """Return the version that serves new calls.

        Raises:
            Unavailable: the model is loading, or failed to load.
        """
        if self.version:
            return self.version
        if self.failed:
            raise Unavailable(
                "MODEL_FAILED",
                f"The model {self.spec.name} failed to load. The embedder's log says why.",
                model=self.spec.name,
            )
        raise Unavailable(
            "MODEL_LOADING",
            f"The model {self.spec.name} is loading. Try again in a few seconds.",
            retry_after=2.0,
            model=self.spec.name,
        )


class ModelRegistry:
    """All models. Use as ``async with ModelRegistry(specs, max_queue_tokens) as registry``.

    Args:
        specs: the models, in the order in which they are loaded.
        max_queue_tokens: maximum number of tokens in each model's queue.
        cache_folder: the folder for the measurements of each model; None stores nothing.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        max_queue_tokens: int,
        cache_folder: Path | None = None,
    ) -> None:
        self._models = {spec.name: RegisteredModel(spec) for spec in specs}
        self._max_queue_tokens, self._cache_folder = max_queue_tokens, cache_folder
        self._load_lock = asyncio.Lock()
        # Loading has its own thread, because threads that libraries start in it inherit its
        # priority.
        self._loader = ThreadPoolExecutor(1, "load", initializer=lower_priority)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ModelRegistry":
        for registered in self._models.values():
            if not registered.spec.lazy:
                self._request_load(registered)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._loader.shutdown(cancel_futures=True)
        for registered in self._models.values():
            if registered.version:
                await registered.version.close()

    async def ready(self) -> bool:
        """Return whether every default model is loaded."""
        return all(one.version for one in self._models.values() if one.spec.default_for)

    def availability(self) -> dict[str, bool]:
        """Return whether calls are served, by model name."""
        return {name: registered.available for name, registered in self._models.items()}

    def models(self) -> list[RegisteredModel]:
        """Return all models, sorted by name."""
        return [self._models[name] for name in sorted(self._models)]

    def find(self, name: str, modality: str = "text") -> RegisteredModel:
        """Return the model with this name, or the default model of a modality if the name is empty.

        Raises:
            NotFound: there is no such model.
            InvalidArgument: no model takes the modality.
            FailedPrecondition: no cross-encoder is configured.
        """
        if name:
            return self._by_name(name)
        for registered in self._models.values():
            if modality in registered.spec.default_for:
                return registered
        if modality == "pair":
            raise FailedPrecondition(
                "NO_RERANK_MODEL",
                "No cross-encoder is configured. Set MEMETWIN_RERANK_MODEL on the embedder.",
            )
        raise InvalidArgument(
            "NO_MODEL_FOR_MODALITY",
            f"No model is the default for {modality} input. Name a model in the request, or"
            " configure a default on the embedder.",
            field="inputs",
            modality=modality,
        )

    async def current_version(self, name: str, modality: str = "text") -> ModelVersion:
        """Return the version of a model that serves new calls; load a lazy model first.

        Callers enter the version (``with``) before they next await.

        Raises:
            Unavailable: the model is loading, or failed to load.
        """
        registered = self.find(name, modality)
        if registered.spec.lazy:
            self._request_load(registered)
            await registered.load_finished.wait()
        return registered.current_version()

    def reload(self) -> None:
        """Start loading the models that failed to load, or whose files have changed."""
        for registered in self._models.values():
            if registered.load_finished.is_set():
                self._start(self._load_if_changed(registered))

    def _by_name(self, name: str) -> RegisteredModel:
        if name in self._models:
            return self._models[name]
        raise NotFound(
            "MODEL_NOT_FOUND",
            f"There is no model with this name. The models are {', '.join(sorted(self._models))}.",
            field="model",
            model=name,
        )

    def _request_load(self, registered: RegisteredModel) -> None:
        if not registered.load_requested:
            registered.load_requested = True
            self._start(self._load_if_changed(registered))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load_if_changed(self, registered: RegisteredModel) -> None:
        async with self._load_lock:
            fingerprint = await self._in_loader(_fingerprint, registered.spec.name)
            if registered.version is None or registered.version.fingerprint != fingerprint:
                await self._load(registered, fingerprint)

    async def _load(self, registered: RegisteredModel, fingerprint: str) -> None:
        """Load a model and replace its version. A failure leaves the old version in place."""
        name = registered.spec.name
        try:
            with garbage_collector.paused():  # a load creates a million permanent objects
                version = await self._new_version(registered.spec, fingerprint)
                garbage_collector.freeze()
            previous, registered.version = registered.version, version
            if previous:
                self._start(_retire(previous))
            log.info("model loaded", extra={"model": name, "digest": version.model.info.digest})
        except ModelLoadError as error:
            registered.failed = True
            log.error("model failed to load: %s", error, extra={"model": name})
        except Exception:
            registered.failed = True
            log.exception("model failed to load", extra={"model": name})
        finally:
            registered.load_finished.set()

    async def _new_version(self, spec: ModelSpec, fingerprint: str) -> ModelVersion:
        model = await self._in_loader(spec.load)
        scales = await self._in_loader(Int8Scales.for_model, model, self._cache_folder)
        readability = await self._in_loader(Readability.for_model, model, self._cache_folder)
        version = ModelVersion(model, scales, readability, self._max_queue_tokens, fingerprint)
        await version.start()
        return version

    async def _in_loader(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call in the loader thread, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._loader, call, *arguments)


async def _retire(version: ModelVersion) -> None:
    """Drain an old version and free its memory."""
    await version.drain()
    del version
    garbage_collector.freeze()


def _fingerprint(name: str) -> str:
    """Return a digest of the sizes and times of a folder's files, or "" if there is no folder."""
    folder, digest = Path(name).resolve(), hashlib.sha256(name.encode())
    if not folder.is_dir():
        return ""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()
