"""Every runtime of the default model on this machine, compared with SentenceTransformer.encode."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.embedder.models.model import Vectors
from services.embedder.models.openvino import OpenVinoRuntime, convert
from services.embedder.models.runtime_selection import (
    MIN_BATCH_INVARIANCE,
    MIN_COSINE,
    RuntimeOptions,
)
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
    return unit(model.encode(model.prepare(TEXTS, "")))


def unit(rows: Vectors) -> Vectors:
    whole: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return whole


@pytest.mark.parametrize("allowed", ["auto", "exact", "torch"])
def test_vectors_agree_with_those_of_sentence_transformers(allowed: str, exports: Path) -> None:
    model = SentenceTransformerModel.load(DEFAULT_TEXT_MODEL, RuntimeOptions(allowed, exports))
    expected = load_sentence_transformer(DEFAULT_TEXT_MODEL)[0].encode(
        TEXTS, normalize_embeddings=True
    )
    least = 0.99 if allowed == "auto" else MIN_COSINE
    assert (vectors(model) * expected).sum(1).min() >= least
    tried = {(trial.runtime, trial.dtype) for trial in model.info.trials}
    assert (model.info.runtime, model.info.dtype) in tried
    assert ("openvino", "float32") in tried or allowed == "torch"
    exactly = model.info.digest == load_sentence_transformer(DEFAULT_TEXT_MODEL)[1]
    assert exactly or model.info.dtype == "int8"


def test_int8_agrees_with_float32_and_does_not_depend_on_the_batch(exports: Path) -> None:
    model, digest = load_sentence_transformer(DEFAULT_TEXT_MODEL)
    small = OpenVinoRuntime(convert(model, exports, digest), 0, "int8")
    ids = [model.tokenizer(text, truncation=True)["input_ids"] for text in TEXTS[:3]]
    batch = unit(small.compute(ids))
    alone = unit(np.vstack([small.compute([one]) for one in ids]))
    expected = model.encode(TEXTS[:3], normalize_embeddings=True)
    assert (batch * expected).sum(1).min() >= 0.99  # "no", a lone word, has .994
    assert (batch * alone).sum(1).min() >= MIN_BATCH_INVARIANCE


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
