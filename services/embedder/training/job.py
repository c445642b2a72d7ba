"""A training with its options from the command line."""

import math
from dataclasses import dataclass
from pathlib import Path

import click

from services.embedder.training.trainer import Progress, TrainerConfig

CARD_FILE = "README.md"
CHECKPOINT_FILE = "checkpoint.pt"


@dataclass(frozen=True)
class TrainingJob:
    """The input, the output and the options of a training.

    Attributes:
        data: the folder of images, or the file of pairs.
        out: the folder of the model, its card and, until the end, the checkpoint.
        config: how long to train, and the seed.
        hold_out: one item in this many is held out; 0 holds out nothing.
    """

    data: Path
    out: Path
    config: TrainerConfig
    hold_out: int

    def options(self) -> str:
        """Return the options in the form of the command line."""
        config = self.config
        minutes = "" if math.isinf(config.max_minutes) else f" --minutes {config.max_minutes:g}"
        return (
            f"--epochs {config.max_epochs}{minutes} --patience {config.patience}"
            f" --hold-out {self.hold_out} --seed {config.seed}"
        )

    def identity(self) -> dict[str, str]:
        """Return the inputs and options that a checkpoint of this job must match."""
        return {"options": self.options()}


def report_resumption(progress: Progress) -> None:
    """Print where an interrupted training resumes; print nothing for a new one."""
    if progress.epoch or progress.batch:
        click.echo(
            f"resuming an interrupted training at epoch {progress.epoch + 1},"
            f" batch {progress.batch + 1}"
        )
