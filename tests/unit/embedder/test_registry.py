import asyncio
import contextlib
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.embedder import registry as module
from services.embedder.models.model import Model, ModelLoadError
from services.embedder.registry import ModelRegistry, ModelSpec, RegisteredModel
from services.errors import FailedPrecondition, Failure, InvalidArgument, NotFound, Unavailable
from tests.fakes.models import TIMEOUT, FakeModel, model_info

TEXT = frozenset({"text"})


class Loads:
    """Loads fake models. Each load has a new digest, or fails with ``error``."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None

    def __call__(self) -> Model:
        self.count += 1
        if self.error:
            raise self.error
        return FakeModel(model_info("text", digest=str(self.count) * 64))


@contextlib.asynccontextmanager
async def running(*specs: ModelSpec) -> AsyncIterator[ModelRegistry]:
    async with asyncio.timeout(TIMEOUT), ModelRegistry(specs, 1000) as registry:
        yield registry


async def loaded(registry: ModelRegistry, name: str) -> RegisteredModel:
    registered = registry.find(name)
    await registered.load_finished.wait()
    return registered


async def reloaded(registry: ModelRegistry) -> None:
    """Reload, and wait until all loads that this starts have ended."""
    registry.reload()
    while tasks := set(registry._tasks):
        await asyncio.wait(tasks)


def digest(registered: RegisteredModel) -> str:
    return registered.current_version().model.info.digest[0]


async def test_models_are_loaded_in_order_except_lazy_ones() -> None:
    names = list[str]()

    def load(name: str) -> Callable[[], Model]:
        def record() -> Model:
            names.append(name)
            return FakeModel()

        return record

    specs = [
        ModelSpec("b", TEXT, load("b")),
        ModelSpec("lazy", frozenset(), load("lazy"), lazy=True),
        ModelSpec("a", frozenset(), load("a")),
    ]
    async with running(*specs) as registry:
        assert not await registry.ready()
        assert registry.availability() == {"b": False, "lazy": True, "a": False}
        await loaded(registry, "a")
        assert await registry.ready()
        assert names == ["b", "a"]
        assert registry.availability() == {"b": True, "lazy": True, "a": True}
        assert [one.spec.name for one in registry.models()] == ["a", "b", "lazy"]


async def test_a_lazy_model_is_loaded_once_by_its_first_calls() -> None:
    loads = Loads()
    async with running(ModelSpec("m", TEXT, loads, lazy=True)) as registry:
        assert registry.find("m").model is None
        versions = await asyncio.gather(*(registry.current_version("m") for _ in range(5)))
        assert len(set(map(id, versions))) == loads.count == 1


async def test_a_model_is_found_by_name_or_as_the_default_of_a_modality() -> None:
    specs = [
        ModelSpec("words", TEXT, FakeModel, lazy=True),
        ModelSpec("pixels", frozenset({"image"}), FakeModel, lazy=True),
    ]
    async with running(*specs) as registry:
        assert registry.find("pixels").spec.name == "pixels"
        assert registry.find("").spec.name == "words"
        assert registry.find("", "image").spec.name == "pixels"
        expected: list[tuple[type[Failure], tuple[str, str]]] = [
            (NotFound, ("none", "text")),
            (InvalidArgument, ("", "audio")),
            (FailedPrecondition, ("", "pair")),
        ]
        for error, arguments in expected:
            with pytest.raises(error):
                registry.find(*arguments)


async def test_a_model_that_is_loading_is_unavailable_for_a_while() -> None:
    async with running(ModelSpec("m", TEXT, FakeModel)) as registry:
        with pytest.raises(Unavailable) as refused:
            await registry.current_version("m")
    assert refused.value.reason == "MODEL_LOADING"
    assert refused.value.retry_after


@pytest.mark.parametrize("error", [ModelLoadError("no such folder"), ValueError("no such folder")])
async def test_a_model_that_fails_to_load_leaves_others_in_service(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    loads = Loads()
    loads.error = error
    with caplog.at_level(logging.ERROR):
        async with running(
            ModelSpec("bad", TEXT, loads), ModelSpec("good", TEXT, FakeModel)
        ) as registry:
            await loaded(registry, "good")
            assert registry.availability() == {"bad": False, "good": True}
            assert not await registry.ready()
            with pytest.raises(Unavailable) as refused:
                await registry.current_version("bad")
            assert refused.value.reason == "MODEL_FAILED"
            loads.error = None
            await reloaded(registry)
            assert await registry.ready()
    assert "no such folder" in caplog.text
    assert caplog.records[0].getMessage().startswith("model failed to load")


async def test_reload_replaces_what_has_changed_on_disk(tmp_path: Path) -> None:
    loads, file = Loads(), tmp_path / "weights"
    file.write_text("one")
    async with running(ModelSpec(str(tmp_path), TEXT, loads)) as registry:
        registered = await loaded(registry, str(tmp_path))
        await reloaded(registry)
        assert digest(registered) == "1"
        file.write_text("another")
        await reloaded(registry)
        assert digest(registered) == "2"
        loads.error = ModelLoadError("damaged")
        file.write_text("damaged weights")
        await reloaded(registry)
        assert digest(registered) == "2"
        assert registered.available


async def test_a_replaced_version_serves_the_calls_that_use_it(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_text("one")
    async with running(ModelSpec(str(tmp_path), TEXT, Loads())) as registry:
        registered = await loaded(registry, str(tmp_path))
        with registered.current_version() as old:
            file.write_text("another")
            registry.reload()
            while registered.current_version() is old:
                await asyncio.wait(set(registry._tasks), return_when=asyncio.FIRST_COMPLETED)
            items = old.model.prepare(["a text"], "")
            assert (await old.batcher.submit(items)).vectors.shape == (1, 8)


class SelfReferring(FakeModel):
    """A model that only the collector frees, like torch's modules."""

    def __init__(self) -> None:
        super().__init__()
        self.itself = self


async def test_a_model_is_not_scanned_for_garbage_until_it_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = iter(range(10))
    monkeypatch.setattr(module, "_fingerprint", lambda name: str(next(states)))
    async with running(ModelSpec("m", TEXT, SelfReferring)) as registry:
        registered = await loaded(registry, "m")
        model = weakref.ref(registered.current_version().model)
        assert not any(one is model() for one in gc.get_objects())
        await reloaded(registry)
        assert model() is None
