"""Deselects tests that need CUDA if there is none. The end of the run reports it."""

import pytest
import torch

from tests.conftest import note_left_out


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests marked ``gpu``, because a machine without a GPU is not a failure."""
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if needing and not torch.cuda.is_available():
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]
        note_left_out("tests/gpu: no CUDA")
