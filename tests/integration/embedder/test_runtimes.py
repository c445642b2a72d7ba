"""Every runtime of the default model on this machine, compared with SentenceTransformer.encode."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.embedder.models.model import Vectors
from services.embedder.models.runtime_selection import (
    MIN_BATCH_INVARIANCE,
    MIN_COSINE,
    RuntimeOptions,
)
from services.embedder.models.runtime_trials import unit_length
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
    load_sentence_transformer,
)
from tests.conftest import ROOT

TEXTS = ["no", "What is a meme?", "Grüße aus Köln – 日本", "A longer text about cats that " * 60]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


def vectors(model: SentenceTransformerModel) -> Vectors:
    return unit_length(model.encode(model.prepare(TEXTS, "")))


@pytest.mark.parametrize("mode", ["auto", "exact", "torch"])
def test_vectors_agree_with_those_of_sentence_transformers(mode: str, exports: Path) -> None:
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL, RuntimeOptions(mode, exports))
    reference, digest = load_sentence_transformer(DEFAULT_TEXT_MODEL)
    expected = reference.encode(TEXTS, normalize_embeddings=True)
    assert (vectors(model) * expected).sum(1).min() >= (0.98 if mode == "auto" else MIN_COSINE)
    trials = {(trial.runtime, trial.dtype): trial for trial in model.info.trials}
    selected = trials[model.info.runtime, model.info.dtype]
    assert (model.info.digest == digest) is (selected.min_cosine >= MIN_COSINE)
    assert ("openvino", "float32") in trials or mode == "torch"


def test_runtimes_agree_with_float32_and_do_not_depend_on_the_batch(exports: Path) -> None:
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL, RuntimeOptions("auto", exports))
    trials = {trial.dtype: trial for trial in model.info.trials if trial.runtime == "openvino"}
    assert trials["float32"].min_cosine >= MIN_COSINE
    assert trials["float32"].batch_invariance >= MIN_BATCH_INVARIANCE
    # On some processors OpenVINO cannot compute in 8 bits, and that runtime is left out.
    if "int8" in trials:
        assert trials["int8"].mean_cosine >= 0.98
        assert trials["int8"].batch_invariance >= 0.999


def test_a_conversion_is_saved_and_a_damaged_one_is_replaced(exports: Path) -> None:
    SentenceTransformerModel.load(DEFAULT_TEXT_MODEL, RuntimeOptions("auto", exports))
    [file] = exports.rglob("model.xml")
    whole = file.read_bytes()
    before = file.stat().st_mtime_ns
    SentenceTransformerModel.load(DEFAULT_TEXT_MODEL, RuntimeOptions("auto", exports))
    assert file.stat().st_mtime_ns == before
    file.write_bytes(whole[: len(whole) // 2])
    for record in exports.rglob("trials.json"):
        record.unlink()
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL, RuntimeOptions("auto", exports))
    assert {trial.runtime for trial in model.info.trials} == {"torch", "openvino"}
    assert file.stat().st_size > len(whole) // 2


def test_a_cache_folder_that_is_not_writable_is_not_needed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL, RuntimeOptions("auto", file))
    assert vectors(model).shape == (4, 384)


def test_openvino_is_imported_without_its_telemetry() -> None:
    code = (
        "import sys; from services.embedder.models.openvino import import_openvino;"
        "import_openvino();"
        "assert not [name for name in sys.modules if 'openvino_telemetry.' in name];"
        "assert sys.modules['openvino_telemetry'] is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
