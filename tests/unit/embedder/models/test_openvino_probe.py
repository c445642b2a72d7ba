import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from services.embedder.models import openvino, openvino_probe
from services.embedder.models.openvino import OpenVinoRuntime, convert
from tests.unit.embedder.models.test_openvino import TinyModel


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return convert(TinyModel(), tmp_path_factory.mktemp("conversions"), "d" * 64)


def test_a_model_that_computes_passes(converted: Any, tmp_path: Path) -> None:
    file = tmp_path / "model.xml"
    openvino.import_openvino().save_model(converted, file)
    openvino_probe.main(str(file), json.dumps({"NUM_STREAMS": 1}))
    assert OpenVinoRuntime(converted, 0, probe=file).compute([[1, 2]]).shape == (1, 32)


def test_a_crash_ends_only_the_probe(
    converted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "openvino_probe.py").write_text("import os; os.abort()")
    monkeypatch.setattr(openvino, "__file__", str(tmp_path / "openvino.py"))
    with pytest.raises(subprocess.CalledProcessError, match="SIGABRT"):
        OpenVinoRuntime(converted, 0, probe=tmp_path / "model.xml")


def test_only_models_with_rotary_positions_are_probed() -> None:
    assert not openvino.uses_rotary_positions(torch.nn.Linear(1, 1))
