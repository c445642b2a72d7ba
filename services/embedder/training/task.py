"""What a training is told, and what every card says of it."""

from dataclasses import dataclass
from pathlib import Path

import click
import torch

from services.embedder.training.trainer import Plan, Progress

CARD = "README.md"
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Task:
    """A training to do.

    Attributes:
        data: folder of pictures, or file of pairs.
        out: folder that the model, its card and, on the way, the checkpoint are written to.
        plan: how long, and from which seed.
        hold_out: of every so many, one is not learned from; 0: all are.
    """

    data: Path
    out: Path
    plan: Plan
    hold_out: int

    def options(self) -> str:
        """Return the options that were given, as on the command line."""
        plan = self.plan
        minutes = "" if plan.minutes == float("inf") else f" --minutes {plan.minutes:g}"
        return (
            f"--epochs {plan.epochs}{minutes} --patience {plan.patience}"
            f" --hold-out {self.hold_out} --seed {plan.seed}"
        )

    def identity(self) -> dict[str, str]:
        """Return what a checkpoint must have been made with."""
        return {"options": self.options()}

    def say_where(self, progress: Progress) -> None:
        """Say that an interrupted training goes on, if it does."""
        if progress.epoch or progress.batch:
            click.echo(
                f"going on where it was interrupted: epoch {progress.epoch + 1},"
                f" batch {progress.batch + 1}"
            )

    def data_section(self, what: str, seen: int, unseen: int, unit: str) -> str:
        """Return the card's section on the data and their split by ``unit``."""
        held_out = f"the first of every {self.hold_out} {unit}" if unseen else "none"
        return (
            f"## Data\n\nLearned from {seen} {what} of `{self.data.resolve().name}`; {unseen} were"
            f" held out ({held_out}).\n"
        )

    def training_section(self, method: str, progress: Progress) -> str:
        """Return the card's section on how it was trained."""
        ended = f"{progress.epoch} epochs, {progress.seconds / 60:.1f} minutes"
        if progress.best:
            loss = progress.losses[progress.best - 1]
            ended += f"; kept is epoch {progress.best}, whose held-out loss was least ({loss:.4f})"
        return (
            f"## Training\n\nTaught {method}: {ended}. Seed {self.plan.seed}, torch"
            f" {torch.__version__}.\nCommand: `memetwin train … {self.options()}`.\n"
        )

    def licence_section(self, origin: str) -> str:
        """Return the card's section on the licence."""
        return f"## Licence\n\nThe weights are under the licence that you give them. {origin}\n"
