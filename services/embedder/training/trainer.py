"""Trains a module by gradient descent, with early stopping and checkpoints."""

import copy
import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from services.embedder.training.checkpoints import Checkpoint

_WARM_UP_SHARE = 0.05


@dataclass(frozen=True)
class TrainerConfig:
    """How long to train, and the seed.

    Attributes:
        max_epochs: passes over the training data.
        max_minutes: training ends after this time; the learning rate still falls to zero by then.
        patience: training ends after this many epochs without a lower held-out loss; 0 disables
            early stopping.
        seed: equal seeds give equal weights on the same machine with the same number of threads,
            unless ``max_minutes`` ends the training.
    """

    max_epochs: int
    max_minutes: float = math.inf
    patience: int = 0
    seed: int = 1


class Objective(Protocol):
    """What a trainer minimises."""

    @property
    def module(self) -> nn.Module:
        """The module that is trained."""
        ...

    @property
    def learning_rate(self) -> float:
        """The highest learning rate."""
        ...

    @property
    def weight_decay(self) -> float:
        """The weight decay of AdamW."""
        ...

    @property
    def generators(self) -> Sequence[torch.Generator]:
        """The random generators that ``loss`` draws from; their states go into checkpoints."""
        ...

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        """Return the row numbers of each batch of an epoch, in a new order."""
        ...

    def loss(self, rows: Tensor) -> Tensor:
        """Compute the loss on rows of the training data."""
        ...

    def held_out_loss(self) -> float | None:
        """Compute the loss on the held-out data; None if no data are held out."""
        ...


@dataclass
class Progress:
    """The progress of a training.

    Attributes:
        epoch: completed epochs.
        batch: completed batches of the current epoch.
        seconds: time spent on training, in all runs.
        held_out_losses: the held-out loss after each epoch.
        best_epoch: the epoch, counted from 1, with the lowest held-out loss; 0 before the first.
    """

    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    held_out_losses: list[float] = field(default_factory=list)
    best_epoch: int = 0


class Trainer:
    """Minimises an objective, and resumes from a checkpoint if one exists.

    Raises:
        ValueError: the checkpoint is damaged, or belongs to another training.
    """

    def __init__(
        self, objective: Objective, config: TrainerConfig, checkpoint: Checkpoint | None = None
    ) -> None:
        self._objective, self._config, self._checkpoint = objective, config, checkpoint
        self._optimizer = torch.optim.AdamW(
            objective.module.parameters(),
            lr=objective.learning_rate,
            weight_decay=objective.weight_decay,
        )
        self._order = torch.Generator().manual_seed(config.seed)
        # After a checkpoint within an epoch, the epoch's order is drawn again from this state.
        self._epoch_order_state = self._order.get_state()
        self._best_state: dict[str, Tensor] | None = None
        self.progress = Progress()
        if checkpoint and (state := checkpoint.load()):
            self._restore(state)

    def run(self) -> Progress:
        """Train to the end; then load the weights of the epoch with the lowest held-out loss.

        Raises:
            ValueError: the training diverges.
        """
        module = self._objective.module.train()
        self._clock = time.monotonic()
        with tqdm(desc="training", unit="batch", mininterval=5) as bar:
            while not self._finished():
                self._run_epoch(bar)
        if self._best_state is not None:
            module.load_state_dict(self._best_state)
        module.eval()
        return self.progress

    def _run_epoch(self, bar: "tqdm[Any]") -> None:
        batches = self._objective.batches(self._order)
        bar.total = self._config.max_epochs * len(batches)
        bar.n = self.progress.epoch * len(batches) + self.progress.batch
        for rows in batches[self.progress.batch :]:
            share = self._completed_share(len(batches))
            if share >= 1:
                break
            loss = self._step(rows, share)
            self.progress.batch += 1
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()
            self._save_if_due()
        self._end_epoch()

    def _step(self, rows: Tensor, share: float) -> float:
        learning_rate = self._objective.learning_rate * learning_rate_factor(share)
        self._optimizer.param_groups[0]["lr"] = learning_rate
        loss = self._objective.loss(rows)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        now = time.monotonic()
        self.progress.seconds += now - self._clock
        self._clock = now
        if not math.isfinite(value := loss.item()):
            raise ValueError(f"the training has diverged: the loss is {value}")
        return value

    def _end_epoch(self) -> None:
        self._objective.module.eval()
        with torch.no_grad():
            loss = self._objective.held_out_loss()
        self._objective.module.train()
        progress = self.progress
        progress.epoch, progress.batch = progress.epoch + 1, 0
        self._epoch_order_state = self._order.get_state()
        if loss is not None:
            if loss < min(progress.held_out_losses, default=math.inf):
                progress.best_epoch = progress.epoch
                self._best_state = copy.deepcopy(self._objective.module.state_dict())
            progress.held_out_losses.append(loss)
        self._save_if_due()

    def _completed_share(self, batches: int) -> float:
        """Return how much of the training is complete, from 0 to 1."""
        epochs = self.progress.epoch + self.progress.batch / batches
        by_time = self.progress.seconds / 60 / self._config.max_minutes
        return max(epochs / self._config.max_epochs, by_time)

    def _finished(self) -> bool:
        progress, config = self.progress, self._config
        waited = progress.epoch - progress.best_epoch if progress.held_out_losses else 0
        return (
            progress.epoch >= config.max_epochs
            or progress.seconds / 60 >= config.max_minutes
            or (config.patience > 0 and waited >= config.patience)
        )

    def _save_if_due(self) -> None:
        if self._checkpoint and self._checkpoint.due():
            self._checkpoint.save(self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "progress": dataclasses.asdict(self.progress),
            "module": self._objective.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best": self._best_state,
            "order": self._epoch_order_state,
            "generators": [one.get_state() for one in self._objective.generators],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.progress = Progress(**state["progress"])
        self._objective.module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._best_state = state["best"]
        self._epoch_order_state = state["order"]
        self._order.set_state(self._epoch_order_state)
        for generator, saved in zip(self._objective.generators, state["generators"], strict=True):
            generator.set_state(saved)
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])


def learning_rate_factor(share: float) -> float:
    """Return the factor of the learning rate: a linear warm-up, then half a cosine to zero.

    Args:
        share: how much of the training is complete, from 0 to 1.
    """
    warm_up = min(1.0, share / _WARM_UP_SHARE + 0.01)
    return warm_up * (1 + math.cos(math.pi * share)) / 2


def autocast_where_fast(device: torch.device | str) -> torch.autocast:
    """Return an autocast to bfloat16, enabled on CUDA and on CPUs with bfloat16 instructions."""
    kind = torch.device(device).type
    # Other CPUs emulate bfloat16 and are many times slower. There is no public API for this.
    enabled = kind == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(kind, torch.bfloat16, enabled=enabled)


def shuffled_batches(count: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """Split ``count`` rows in random order into batches of ``size``; drop an incomplete one."""
    rows = torch.randperm(count, generator=generator)
    return list(rows[: count // size * size].view(-1, size))
