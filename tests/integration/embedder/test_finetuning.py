"""Text models learn from pairs: two made-up languages whose words mean the same, one by one."""

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
from services.embedder.training.text_pairs import Pair
from services.embedder.training.trainer import Descent, Plan
from tests import small_models
from tests.embedder_process import EmbedderProcess, request

ONE = [f"{letter}o" for letter in small_models.LETTERS]
OTHER = [f"{letter}i" for letter in small_models.LETTERS]


def translations(count: int, seed: int = 1) -> list[Pair]:
    """Four words of the one language, and the same of the other."""
    chance = random.Random(seed)
    chosen = [chance.sample(range(len(ONE)), 4) for _ in range(count)]
    return [
        Pair(" ".join(ONE[word] for word in row), " ".join(OTHER[word] for word in row))
        for row in chosen
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_models.bert(tmp_path_factory.mktemp("bert"), [*ONE, *OTHER])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights need larger steps than those of a model that knows something."""
    monkeypatch.setattr(TextPairObjective, "rate", 5e-3)


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
        text_training.measure(load_sentence_transformer(str(one))[0], unseen)
        for one in (base, tmp_path / "net")
    )
    assert before
    assert after
    assert after.recall.at_1 > before.recall.at_1 + 0.5
    assert after.precision > before.precision + 0.2
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


class Killed(Exception):
    """The training is cut off here."""


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(
    base: Path, tmp_path: Path
) -> None:
    seen, unseen = text_pairs.split(translations(300), 10)

    def descend(die_after: int | None, name: str) -> dict[str, torch.Tensor]:
        lesson = TextPairObjective(load_sentence_transformer(str(base))[0], seen, unseen, seed=1)
        checkpoint = Checkpoint(tmp_path / name, {"options": ""})
        checkpoint.due = lambda: True  # type: ignore[method-assign]
        descent, loss, steps = Descent(lesson, Plan(3), checkpoint), lesson.loss, 0

        def count(rows: torch.Tensor) -> torch.Tensor:
            nonlocal steps
            if steps == die_after:
                raise Killed
            steps += 1
            return loss(rows)

        lesson.loss = count  # type: ignore[method-assign]
        descent.run()
        state: dict[str, torch.Tensor] = lesson.module.state_dict()
        return state

    expected = descend(None, "whole")
    for die_after in (5, 2):
        with pytest.raises(Killed):
            descend(die_after, "cut")
    found = descend(None, "cut")
    assert all((found[name] == expected[name]).all() for name in expected)


@pytest.mark.usefixtures("quick")
def test_labelled_pairs_teach_what_does_not_belong_together(base: Path, tmp_path: Path) -> None:
    chance, rows = random.Random(2), []
    for number, pair in enumerate(translations(400)):
        words = pair.b.split()
        if wrong := number % 2:  # one word of the four is another
            words[0] = chance.choice([word for word in OTHER if word not in words])
        rows.append({"a": pair.a, "b": " ".join(words), "label": not wrong})
    file = write(tmp_path / "pairs.jsonl", rows)
    result = train(file, base, tmp_path / "net", "--epochs", "20", "--hold-out", "5")
    assert result.exit_code == 0, result.output
    assert "CoSENTLoss" in result.output
    unseen = text_pairs.split(text_pairs.read(file), 5)[1]
    assert {pair.same for pair in unseen} == {True, False}
    before, after = (
        text_training.measure(load_sentence_transformer(str(one))[0], unseen)
        for one in (base, tmp_path / "net")
    )
    assert before
    assert after
    assert after.precision > before.precision + 0.1


def test_no_text_is_learned_from_and_held_out(tmp_path: Path) -> None:
    chance = random.Random(3)
    rows = [
        Pair(str(chance.randrange(400)), str(chance.randrange(400)), chance.random() < 0.5)
        for _ in range(200)
    ]
    seen, unseen = text_pairs.split(rows, 4)
    assert len(seen) + len(unseen) == 200
    assert unseen
    known = {text for pair in seen for text in (pair.a, pair.b)}
    assert known.isdisjoint(text for pair in unseen for text in (pair.a, pair.b))
    assert text_pairs.split(rows, 0)[1] == []


def test_no_batch_has_two_pairs_that_share_a_text(base: Path) -> None:
    rows = [Pair(f"a{number // 3}", f"b{number}") for number in range(300)]
    lesson = TextPairObjective(load_sentence_transformer(str(base))[0], rows, [], seed=1)
    batches = lesson.batches(torch.Generator().manual_seed(1))
    assert len(batches) == 4
    for batch in batches:
        assert len({rows[row].a for row in batch.tolist()}) == len(batch) == 64


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("no JSON", "pairs.jsonl:1 is no JSON"),
        ('{"a": "x"}', "pairs.jsonl:1: expected"),
        ('{"a": "x", "b": " "}', "pairs.jsonl:1: expected"),
        ('{"a": "x", "b": "y", "label": "maybe"}', "label must be true or false"),
        ('{"a": "x", "b": "y", "label": 0}', "no pair of texts that belong together"),
        ('{"a": "x", "b": "y"}', "at least two pairs"),
    ],
)
def test_bad_pairs_are_refused(base: Path, tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(line)
    result = train(tmp_path / "pairs.jsonl", base, tmp_path / "net")
    assert result.exit_code == 1
    assert complaint in result.output.replace("\n", " ")


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", [{"a": f"a{n}", "b": f"b{n}"} for n in range(9)])
    result = train(file, tmp_path / "none", tmp_path / "net")
    assert result.exit_code == 1
    assert "cannot be loaded" in result.output
