import asyncio
import gc
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.embedder import registry as module
from services.embedder.models.model import Content, ModelInfo, PreparedInput, Tokens
from services.embedder.registry import ModelRegistry, ModelSpec


class Circular:
    """A model that holds itself, as torch's modules do: no count of references lets go of it."""

    def __init__(self) -> None:
        kinds = frozenset({"text"})
        self.info = ModelInfo("m", kinds, 1, 9, "none", "cpu", "float32", "d")
        self.itself = self

    def prepare(self, contents: Sequence[Content], task: str) -> list[PreparedInput]:
        return [PreparedInput(text, 1, 1, False, text) for text in contents]

    def encode(self, batch: Sequence[PreparedInput]) -> NDArray[np.float32]:
        return np.ones((len(batch), 1), np.float32)

    def tokenize(self, text: str) -> Tokens:
        raise NotImplementedError


async def test_a_model_is_passed_over_by_the_garbage_collector_until_another_takes_its_place(
    monkeypatch: Any,
) -> None:
    states = iter(range(10))
    monkeypatch.setattr(module, "_fingerprint", lambda name: str(next(states)))
    try:
        async with ModelRegistry([ModelSpec("m", frozenset({"text"}), Circular)], 1000) as models:
            version = await loaded(models)
            first = weakref.ref(version.model)
            assert not any(one is version.model for one in gc.get_objects())
            models.reload()
            while models.find("m").version is version:
                await _soon()
            del version
            while first():
                await _soon()
    finally:
        gc.unfreeze()


async def loaded(models: ModelRegistry) -> Any:
    while not (version := models.find("m").version):
        await _soon()
    return version


async def _soon() -> None:
    await asyncio.sleep(0.01)
