import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from services.embedder.training import command, image_training, text_training
from services.embedder.training.job import TrainingJob
from services.embedder.training.trainer import TrainerConfig
from tests.fakes.networks import tiny_network


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Records what the command would train."""
    given: list[tuple[Any, ...]] = []

    def train_images(job: TrainingJob, architecture: Path, *, labelled: bool | None) -> str:
        given.append((job, architecture, labelled))
        return "the card"

    def train_texts(job: TrainingJob, base: str) -> str:
        given.append((job, base))
        raise ValueError("the pairs are not usable")

    monkeypatch.setattr(image_training, "train", train_images)
    monkeypatch.setattr(text_training, "train", train_texts)
    return given


def train(*words: object) -> Result:
    return CliRunner().invoke(command.train, list(map(str, words)))


def test_images_have_their_defaults(jobs: list[tuple[Any, ...]], tmp_path: Path) -> None:
    result = train("--pictures", tmp_path, "--out", tmp_path / "net")
    assert (result.exit_code, result.output) == (0, "the card\n")
    [(job, architecture, labelled)] = jobs
    config = TrainerConfig(max_epochs=300, max_minutes=math.inf, patience=30, seed=1)
    assert job == TrainingJob(tmp_path, tmp_path / "net", config, hold_out=4)
    assert architecture.is_file()
    assert labelled is None


def test_pairs_have_their_defaults_and_errors_are_shown(
    jobs: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    file = tmp_path / "pairs.jsonl"
    file.touch()
    result = train("--pairs", file, "--out", tmp_path / "net", "--minutes", 2, "--hold-out", 0)
    assert (result.exit_code, result.output) == (1, "Error: the pairs are not usable\n")
    [(job, base)] = jobs
    config = TrainerConfig(max_epochs=5, max_minutes=2, patience=2, seed=1)
    assert job == TrainingJob(file, tmp_path / "net", config, hold_out=0)
    assert base == "all-MiniLM-L6-v2"


def test_either_images_or_pairs_are_given(tmp_path: Path) -> None:
    (tmp_path / "pairs").touch()
    both = ["--pictures", tmp_path, "--pairs", tmp_path / "pairs"]
    for words in ([], both):
        result = train(*words, "--out", tmp_path / "net")
        assert result.exit_code == 2
        assert "Give either --pictures or --pairs." in result.output


def test_everything_cannot_be_held_out(tmp_path: Path) -> None:
    result = train("--pictures", tmp_path, "--out", tmp_path / "net", "--hold-out", 1)
    assert result.exit_code == 2
    assert "--hold-out 1 holds out everything" in result.output


def visualize(image: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(command.visualize, list(map(str, [image, *words])))


def test_a_network_is_drawn(tmp_path: Path) -> None:
    tiny_network().save(tmp_path / "net")
    Image.linear_gradient("L").save(tmp_path / "image.png")
    out = tmp_path / "drawn"
    result = visualize(tmp_path / "image.png", "--network", tmp_path / "net", "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(result.output.split()) == sorted(map(str, out.iterdir()))


def test_a_file_that_is_not_an_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    result = visualize(tmp_path / "notes.txt", "--out", tmp_path / "drawn")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
