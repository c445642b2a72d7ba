"""Tests that need CUDA are not collected as work where there is none; the end of a run says so."""

import pytest
import torch

from tests.conftest import note_left_out


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is marked ``gpu``: that a machine has no GPU is no failure, CI's neither."""
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if needing and not torch.cuda.is_available():
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]
        note_left_out("tests/gpu: no CUDA")
