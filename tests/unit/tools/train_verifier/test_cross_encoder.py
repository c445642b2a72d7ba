import json
import random
from pathlib import Path
from typing import Any

import safetensors.numpy
import torch
from click.testing import CliRunner

from services.embedder.models.question_pairs import MATRICES, WEIGHTS, QuestionPairModel
from services.embedder.models.runtime_selection import RuntimeOptions
from services.embedder.models.sentence_transformer import (
    DEFAULT_TEXT_MODEL,
    load_sentence_transformer,
)
from tools.train_verifier import cross_encoder
from tools.train_verifier.cross_encoder import PairNetwork, train


def test_without_updates_the_network_computes_the_base() -> None:
    torch.manual_seed(0)
    model, _ = load_sentence_transformer(DEFAULT_TEXT_MODEL)
    bert: Any = model[0].auto_model
    ids, mask = torch.tensor([[101, 2054, 102, 2129, 102]]), torch.ones(1, 5, dtype=torch.int64)
    before = bert(ids, attention_mask=mask).last_hidden_state
    network = PairNetwork(bert).eval()
    torch.testing.assert_close(
        network.encoder.bert(ids, attention_mask=mask).last_hidden_state, before
    )


def test_training_writes_weights_that_the_embedder_serves(tmp_path: Path) -> None:
    rng = random.Random(1)
    words = ["apples", "boats", "clouds", "drums", "eels", "farms", "geese", "hills"]
    rows = []
    for number in range(120):
        one, other = rng.sample(words, 2)
        same = number % 2 == 0
        rows.append(
            {
                "a": f"Where are {one} number {number}?",
                "b": f"Where can I find {one if same else other} number {number}?",
                "duplicate": same,
            }
        )
    file, out = tmp_path / "pairs.jsonl", tmp_path / "adapter.safetensors"
    file.write_text("\n".join(map(json.dumps, rows)))
    result = CliRunner().invoke(train, ["--pairs", str(file), "--out", str(out)])
    assert result.exit_code == 0, result.output
    arrays, shipped = safetensors.numpy.load_file(out), safetensors.numpy.load_file(WEIGHTS)
    assert {name: array.shape for name, array in arrays.items()} == {
        name: array.shape for name, array in shipped.items()
    }
    assert any(arrays[f"0.{name}.up"].any() for name in MATRICES)
    served = QuestionPairModel.load(RuntimeOptions("torch", tmp_path), out)
    prepared = served.prepare([("Where are geese?", "Where are hills?")], "")
    assert served.encode(prepared).shape == (1, 1)
    assert arrays["0.query.up"].shape[1] == cross_encoder.RANK
