import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from services.embedder.models import openvino
from services.embedder.models.openvino import OpenVinoRuntime, convert, save_atomically

BATCH = [[3, 4, 5], [6]]


class TinyModel(nn.Module):
    """Mean-pooled embeddings after a dense layer."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.embedding, self.dense = nn.Embedding(64, 32), nn.Linear(32, 32)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = features["attention_mask"][..., None]
        tokens = self.dense(self.embedding(features["input_ids"])) * mask
        return {"sentence_embedding": tokens.sum(1) / mask.sum(1)}

    def expected(self) -> np.ndarray:
        with torch.no_grad():
            rows = [self.dense(self.embedding(torch.tensor(ids))).mean(0) for ids in BATCH]
        return torch.stack(rows).numpy()


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return convert(TinyModel(), tmp_path_factory.mktemp("conversions"), "d" * 64)


def test_a_converted_model_computes_the_vectors_of_torch(converted: Any) -> None:
    runtime = OpenVinoRuntime(converted, 0)
    vectors = runtime.compute(BATCH)
    assert vectors.dtype == np.float32
    assert runtime.dtype == "float32"
    np.testing.assert_allclose(vectors, TinyModel().expected(), atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "half", "expected"),
    [
        ("float32", False, {"INFERENCE_PRECISION_HINT": "f32"}),
        ("bfloat16", True, {"INFERENCE_PRECISION_HINT": "bf16"}),
        (
            "int8",
            False,
            {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32},
        ),
    ],
)
def test_the_precision_depends_on_the_dtype(
    converted: Any,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    half: bool,
    expected: dict[str, Any],
) -> None:
    fake = FakeOpenVino()
    monkeypatch.setattr(openvino, "import_openvino", lambda: fake)
    monkeypatch.setattr(openvino, "available_cores", lambda: 2)
    OpenVinoRuntime(converted, 0, dtype, half=half)
    [(model, one_core), (_, all_cores)] = fake.compiled
    for options in (one_core, all_cores):
        precision = {
            name: options[name] for name in options if "PRECISION" in name or "GROUP" in name
        }
        assert precision == expected
        assert options["CPU_RUNTIME_CACHE_CAPACITY"] == openvino.CACHED_KERNELS
    assert (one_core["NUM_STREAMS"], all_cores["NUM_STREAMS"]) == (2, 1)
    assert (model is converted) is (dtype != "int8")


def test_a_single_text_uses_all_cores_unless_another_batch_is_computed(
    converted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = OpenVinoRuntime(converted, 0)
    used: list[str] = []
    entered, release = threading.Event(), threading.Event()
    request = runtime._request

    def record(name: str) -> Any:
        used.append(name)
        if len(used) == 3:
            entered.set()
            release.wait(10)
        return request(name)

    monkeypatch.setattr(runtime, "_request", record)
    runtime.compute(BATCH[:1])
    runtime.compute(BATCH)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(runtime.compute, BATCH)
        assert entered.wait(10)
        runtime.compute(BATCH[:1])
        release.set()
        other.result(10)
    runtime.compute(BATCH[:1])
    assert used == ["all_cores", "one_core", "one_core", "one_core", "all_cores"]


def test_workers_are_bounded(converted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "available_cores", lambda: 1)
    assert OpenVinoRuntime(converted, 0).workers == 1
    monkeypatch.setattr(openvino, "available_cores", lambda: 100)
    monkeypatch.setattr(openvino, "import_openvino", FakeOpenVino)
    assert OpenVinoRuntime(converted, 0).workers == 16


def test_a_saved_conversion_is_read_again_and_a_damaged_one_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeOpenVino()
    monkeypatch.setattr(openvino, "import_openvino", lambda: fake)
    assert convert(TinyModel(), tmp_path, "a" * 64) == "converted"
    assert convert(TinyModel(), tmp_path, "a" * 64) == "read"
    assert convert(TinyModel(), tmp_path, "b" * 64) == "converted"
    [file] = tmp_path.glob("a*/openvino-2025.4.0-*/model.xml")
    file.write_text("damaged")
    with caplog.at_level(logging.WARNING):
        assert convert(TinyModel(), tmp_path, "a" * 64) == "converted"
    assert "a saved conversion is damaged" in caplog.text
    assert file.read_text() == "model"


def test_a_conversion_that_cannot_be_saved_is_returned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openvino, "import_openvino", FakeOpenVino)
    (tmp_path / "file").write_text("not a folder")
    assert convert(TinyModel(), tmp_path / "file", "a" * 64) == "converted"
    assert "a conversion cannot be saved" in caplog.text


class FakeOpenVino:
    """Saves and reads conversions as text files, and records what is compiled."""

    def __init__(self) -> None:
        self.compiled: list[tuple[Any, dict[str, Any]]] = []

    def get_version(self) -> str:
        return "2025.4.0-12345"

    def Core(self) -> "FakeOpenVino":  # noqa: N802 - OpenVINO's name
        return self

    def compile_model(self, model: Any, device: str, options: dict[str, Any]) -> None:
        assert device == "CPU"
        self.compiled.append((model, options))

    def convert_model(self, model: nn.Module, example_input: Any) -> str:
        assert model(*example_input).shape == (2, 32)
        return "converted"

    def save_model(self, model: Any, path: Path, *, compress_to_fp16: bool) -> None:
        assert not compress_to_fp16
        path.write_text("model")

    def read_model(self, path: Path) -> str:
        if path.read_text() != "model":
            raise RuntimeError("damaged")
        return "read"


def test_a_folder_appears_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "model" / "model.xml"

    def save(path: Path) -> None:
        path.write_text("x")
        assert not file.parent.exists()
        path.with_suffix(".bin").write_text("y")

    save_atomically(file, save)
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.bin", "model.xml"]
    assert list(file.parent.parent.iterdir()) == [file.parent]


def test_a_folder_that_another_process_saved_first_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "model" / "model.xml"

    def save(path: Path) -> None:
        path.write_text("mine")
        file.parent.mkdir()
        file.write_text("theirs")

    save_atomically(file, save)
    assert file.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [file.parent]


def test_a_failure_to_save_is_raised_and_leaves_nothing(tmp_path: Path) -> None:
    def save(path: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_atomically(tmp_path / "model" / "model.xml", save)
    assert list(tmp_path.iterdir()) == []
