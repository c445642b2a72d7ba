from pathlib import Path

import pytest

from services.embedder.training import model_card
from services.embedder.training.job import TrainingJob
from services.embedder.training.trainer import Progress, TrainerConfig


@pytest.fixture
def job() -> TrainingJob:
    return TrainingJob(Path("/data/cats"), Path("/out"), TrainerConfig(5, seed=7), hold_out=4)


def test_the_data_and_their_split_are_described(job: TrainingJob) -> None:
    section = model_card.data_section(job, "images", 30, 10, "images, by name")
    assert "Trained on 30 images of `cats`; 10 were held out" in section
    assert "(the first of every 4 images, by name)" in section
    assert "0 were held out (none)" in model_card.data_section(job, "images", 30, 0, "images")


def test_the_best_epoch_is_named(job: TrainingJob) -> None:
    progress = Progress(epoch=3, seconds=90, held_out_losses=[2, 0.5, 1], best_epoch=2)
    section = model_card.training_section(job, "well", progress)
    assert "Trained well: 3 epochs, 1.5 minutes" in section
    assert "epoch 2, which has the lowest held-out loss (0.5000)" in section.replace("\n", " ")
    assert "Seed 7" in section
    assert f"`memetwin train … {job.options()}`" in section


def test_without_held_out_data_no_epoch_is_the_best(job: TrainingJob) -> None:
    assert "held-out loss" not in model_card.training_section(job, "well", Progress(epoch=3))


def test_the_licence_says_where_weights_come_from() -> None:
    assert "of cats" in model_card.licence_section("The weights are of cats.")


def test_a_card_without_figures_says_why() -> None:
    assert "Nothing was held out" in model_card.no_figures("pairs", 0)
    assert "Too few pairs were held out (1)" in model_card.no_figures("pairs", 1)
    assert "was not evaluated" in model_card.no_figures("pairs", 1)
