"""Text models trained on pairs: two invented languages whose words translate one by one."""

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from sentence_transformers import SentenceTransformer

from memetwin.embedder.v1 import embedder_pb2
from services.embedder.models.sentence_transformer import load_sentence_transformer
from services.embedder.training import command, text_pairs, text_training
from services.embedder.training.checkpoints import Checkpoint
from services.embedder.training.text_losses import TextPairObjective
from services.embedder.training.text_pairs import TextPair
from services.embedder.training.trainer import Trainer, TrainerConfig
from tests import small_models
from tests.embedder_process import EmbedderProcess, request

ONE = [f"{letter}o" for letter in small_models.LETTERS]
OTHER = [f"{letter}i" for letter in small_models.LETTERS]


def translations(count: int, seed: int = 1) -> list[TextPair]:
    """Return pairs of four words of one language, and the same words of the other."""
    rng = random.Random(seed)
    chosen = [rng.sample(range(len(ONE)), 4) for _ in range(count)]
    return [
        TextPair(" ".join(ONE[word] for word in row), " ".join(OTHER[word] for word in row))
        for row in chosen
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.bert(tmp_path_factory.mktemp("bert"), [*ONE, *OTHER])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights need larger steps than pretrained ones."""
    monkeypatch.setattr(TextPairObjective, "learning_rate", 5e-3)


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def train(file: Path, base: Path, out: Path, *options: str) -> Result:
    words = ["--pairs", str(file), "--model", str(base), "--out", str(out), *options]
    return CliRunner().invoke(command.train, words)


@pytest.mark.usefixtures("quick")
def test_pairs_become_a_better_model_that_the_embedder_serves(base: Path, tmp_path: Path) -> None:
    rows = translations(600)
    file = write(tmp_path / "pairs.jsonl", [{"a": pair.a, "b": pair.b} for pair in rows])
    result = train(file, base, tmp_path / "net", "--epochs", "12")
    assert result.exit_code == 0, result.output
    assert "training on 539 pairs, 61 held out" in result.output  # some share a text
    assert not (tmp_path / "net" / "checkpoint.pt").exists()
    unseen = text_pairs.split(rows, 10)[1]
    before, after = (
        text_training.evaluate(load_sentence_transformer(str(one))[0], unseen)
        for one in (base, tmp_path / "net")
    )
    assert before
    assert after
    assert after.recall.at_1 > before.recall.at_1 + 0.5
    assert after.average_precision > before.average_precision + 0.2
    figures = f"| recall@1 | {before.recall.at_1:.1%} | {after.recall.at_1:.1%} |"
    assert figures in (tmp_path / "net" / "README.md").read_text()

    environment = os.environ | {"MEMETWIN_TEXT_MODEL": str(tmp_path / "net")}
    served = EmbedderProcess(environment | {"MEMETWIN_RUNTIME": "torch"})
    reply = served.stub.Embed(request([pair.a for pair in unseen]), timeout=60)
    model = served.stub.GetModel(embedder_pb2.GetModelRequest()).model
    served.stop()
    assert (reply.model, reply.model_digest) == (str(tmp_path / "net"), model.digest)
    assert f"Digest `{model.digest}`" in result.output
    local = SentenceTransformer(str(tmp_path / "net"), device="cpu")
    expected = local.encode([pair.a for pair in unseen], normalize_embeddings=True)
    found = np.frombuffer(reply.vectors, "<f4").reshape(-1, reply.dimensions)
    assert (found * expected).sum(1).min() > 0.9999


class Interrupted(Exception):
    """Ends a training as a signal would."""


def test_an_interrupted_training_resumes_to_the_same_weights(base: Path, tmp_path: Path) -> None:
    train_set, held_out = text_pairs.split(translations(300), 10)

    def run(interrupt_after: int | None, name: str) -> dict[str, torch.Tensor]:
        model = load_sentence_transformer(str(base))[0]
        objective = TextPairObjective(model, train_set, held_out, seed=1)
        checkpoint = Checkpoint(tmp_path / name, {"options": ""})
        checkpoint.due = lambda: True  # type: ignore[method-assign]
        trainer, loss, steps = Trainer(objective, TrainerConfig(3), checkpoint), objective.loss, 0

        def interrupt(rows: torch.Tensor) -> torch.Tensor:
            nonlocal steps
            if steps == interrupt_after:
                raise Interrupted
            steps += 1
            return loss(rows)

        objective.loss = interrupt  # type: ignore[method-assign]
        trainer.run()
        state: dict[str, torch.Tensor] = objective.module.state_dict()
        return state

    expected = run(None, "whole")
    for interrupt_after in (5, 2):
        with pytest.raises(Interrupted):
            run(interrupt_after, "cut")
    found = run(None, "cut")
    assert all((found[name] == expected[name]).all() for name in expected)


@pytest.mark.usefixtures("quick")
def test_labelled_pairs_teach_which_texts_do_not_match(base: Path, tmp_path: Path) -> None:
    rng, rows = random.Random(2), []
    for number, pair in enumerate(translations(400)):
        words = pair.b.split()
        if wrong := number % 2:  # one word of the four is another
            words[0] = rng.choice([word for word in OTHER if word not in words])
        rows.append({"a": pair.a, "b": " ".join(words), "label": not wrong})
    file = write(tmp_path / "pairs.jsonl", rows)
    result = train(file, base, tmp_path / "net", "--epochs", "20", "--hold-out", "5")
    assert result.exit_code == 0, result.output
    assert "CoSENTLoss" in result.output
    unseen = text_pairs.split(text_pairs.read(file), 5)[1]
    assert {pair.matches for pair in unseen} == {True, False}
    before, after = (
        text_training.evaluate(load_sentence_transformer(str(one))[0], unseen)
        for one in (base, tmp_path / "net")
    )
    assert before
    assert after
    assert after.average_precision > before.average_precision + 0.1


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("no JSON", "pairs.jsonl:1 is not valid JSON"),
        ('{"a": "x", "b": "y"}', "at least two pairs"),
    ],
)
def test_bad_pairs_are_refused(base: Path, tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(line)
    result = train(tmp_path / "pairs.jsonl", base, tmp_path / "net")
    assert result.exit_code == 1
    assert complaint in result.output.replace("\n", " ")


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", [{"a": f"a{n}", "b": f"b{n}"} for n in range(9)])
    result = train(file, tmp_path / "none", tmp_path / "net")
    assert result.exit_code == 1
    assert "cannot be loaded" in result.output
