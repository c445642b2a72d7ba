"""The common sections of the cards of trained models."""

import torch

from services.embedder.training.job import TrainingJob
from services.embedder.training.trainer import Progress


def no_figures(noun: str, held_out: int) -> str:
    """Explain why the card has no figures: ``held_out`` of ``noun`` are too few to evaluate."""
    reason = f"Too few {noun} were held out ({held_out})" if held_out else "Nothing was held out"
    return f"## Figures\n\n{reason}, so the model was not evaluated and its quality is unknown.\n"


def data_section(job: TrainingJob, noun: str, trained: int, held_out: int, unit: str) -> str:
    """Describe the data and how it was split.

    Args:
        job: the training.
        noun: what ``trained`` and ``held_out`` count.
        trained: how many the model was trained on.
        held_out: how many were held out.
        unit: the unit of which the first of every ``job.hold_out`` was held out.
    """
    split = f"the first of every {job.hold_out} {unit}" if held_out else "none"
    return (
        f"## Data\n\nTrained on {trained} {noun} of `{job.data.resolve().name}`; {held_out} were"
        f" held out ({split}).\n"
    )


def training_section(job: TrainingJob, method: str, progress: Progress) -> str:
    """Describe the method and the course of a training."""
    course = f"{progress.epoch} epochs, {progress.seconds / 60:.1f} minutes"
    if progress.best_epoch:
        loss = progress.held_out_losses[progress.best_epoch - 1]
        course += (
            f"; the weights are those of epoch {progress.best_epoch}, which has the lowest held-out"
            f" loss ({loss:.4f})"
        )
    return (
        f"## Training\n\nTrained {method}: {course}. Seed {job.config.seed}, torch"
        f" {torch.__version__}.\nCommand: `memetwin train … {job.options()}`.\n"
    )


def licence_section(origin: str) -> str:
    """Describe the licence of the weights and their origin."""
    return f"## Licence\n\nYou choose the licence of the weights. {origin}\n"
