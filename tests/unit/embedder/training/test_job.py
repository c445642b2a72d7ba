from pathlib import Path

import pytest

from services.embedder.training.job import TrainingJob, report_resumption
from services.embedder.training.trainer import Progress, TrainerConfig


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TrainerConfig(5), "--epochs 5 --patience 0 --hold-out 4 --seed 1"),
        (
            TrainerConfig(5, max_minutes=0.5, patience=3, seed=9),
            "--epochs 5 --minutes 0.5 --patience 3 --hold-out 4 --seed 9",
        ),
    ],
)
def test_options_are_those_of_the_command_line(config: TrainerConfig, expected: str) -> None:
    job = TrainingJob(Path("data"), Path("out"), config, hold_out=4)
    assert job.options() == expected
    assert job.identity() == {"options": expected}


def test_only_a_resumed_training_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    report_resumption(Progress())
    assert capsys.readouterr().out == ""
    report_resumption(Progress(epoch=2, batch=5))
    assert capsys.readouterr().out == "resuming an interrupted training at epoch 3, batch 6\n"
