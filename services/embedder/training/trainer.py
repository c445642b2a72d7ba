"""Gradient descent with early stopping and checkpoints: the one loop of every training.

What is taught, and how wrong it still is, is a ``Lesson``'s own (contrast.py, classes.py,
sentences.py).
"""

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

_WARM_UP = 0.05


@dataclass(frozen=True)
class Plan:
    """How long to train, and from which seed.

    Attributes:
        epochs: how often everything is seen; at most.
        minutes: when to end even so; the learning rate still falls to zero.
        patience: epochs without a lower loss on what was held out, after which it ends; 0: never.
        seed: the same seed gives the same weights on the same machine and number of threads, unless
            the minutes end first.
    """

    epochs: int
    minutes: float = math.inf
    patience: int = 0
    seed: int = 1


class Lesson(Protocol):
    """What is taught."""

    @property
    def module(self) -> nn.Module:
        """What learns."""
        ...

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        ...

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""
        ...

    @property
    def chances(self) -> Sequence[torch.Generator]:
        """Random generators whose state decides what comes next."""
        ...

    def batches(self, chance: torch.Generator) -> list[Tensor]:
        """Return the rows of an epoch's batches, in a new order."""
        ...

    def loss(self, rows: Tensor) -> Tensor:
        """Return the loss on some rows of what is learned from."""
        ...

    def held_out_loss(self) -> float | None:
        """Return the loss on what is held out; None if nothing is."""
        ...


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        epoch: epochs that are over.
        batch: batches of the current epoch that are over.
        seconds: spent on training, of all runs together.
        losses: on what was held out, after each epoch.
        best: the epoch after which that was least, counted from 1; 0: none was measured.
    """

    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    best: int = 0


class Descent:
    """Teaches a lesson; with a checkpoint it goes on where the last run was interrupted.

    Raises:
        ValueError: the checkpoint is of another training.
    """

    def __init__(self, lesson: Lesson, plan: Plan, checkpoint: Checkpoint | None = None) -> None:
        self._lesson, self._plan, self._checkpoint = lesson, plan, checkpoint
        self._optimiser = torch.optim.AdamW(
            lesson.module.parameters(), lr=lesson.rate, weight_decay=lesson.weight_decay
        )
        self._order = torch.Generator().manual_seed(plan.seed)
        self._epoch_order = self._order.get_state()
        self._best: dict[str, Tensor] | None = None
        self.progress = Progress()
        if checkpoint and (state := checkpoint.load()):
            self._go_on(state)

    def run(self) -> Progress:
        """Train to the end; what was best on the held-out part is kept.

        Raises:
            ValueError: it diverges.
        """
        module = self._lesson.module.train()
        self._clock = time.monotonic()
        with tqdm(desc="training", unit="batch", mininterval=5) as bar:
            while not self._over():
                self._epoch(bar)
        if self._best is not None:
            module.load_state_dict(self._best)
        module.eval()
        return self.progress

    def _epoch(self, bar: "tqdm[Any]") -> None:
        batches = self._lesson.batches(self._order)
        bar.total = self._plan.epochs * len(batches)
        bar.n = self.progress.epoch * len(batches) + self.progress.batch
        for rows in batches[self.progress.batch :]:
            share = self._share(len(batches))
            if share >= 1:
                break
            loss = self._step(rows, share)
            self.progress.batch += 1
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()
            self._save_if_due()
        self._end_epoch()

    def _step(self, rows: Tensor, share: float) -> float:
        self._optimiser.param_groups[0]["lr"] = self._lesson.rate * schedule(share)
        loss = self._lesson.loss(rows)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        now = time.monotonic()
        self.progress.seconds += now - self._clock
        self._clock = now
        if not math.isfinite(found := loss.item()):
            raise ValueError("training has diverged: the loss is no number any more")
        return found

    def _end_epoch(self) -> None:
        self._lesson.module.eval()
        with torch.no_grad():
            loss = self._lesson.held_out_loss()
        self._lesson.module.train()
        progress = self.progress
        progress.epoch, progress.batch = progress.epoch + 1, 0
        self._epoch_order = self._order.get_state()
        if loss is not None:
            if loss < min(progress.losses, default=math.inf):
                progress.best = progress.epoch
                self._best = copy.deepcopy(self._lesson.module.state_dict())
            progress.losses.append(loss)
        self._save_if_due()

    def _share(self, batches: int) -> float:
        """Return how much of the training is over, 0 to 1."""
        done = (self.progress.epoch + self.progress.batch / batches) / self._plan.epochs
        return max(done, self.progress.seconds / 60 / self._plan.minutes)

    def _over(self) -> bool:
        progress, plan = self.progress, self._plan
        waited = progress.epoch - progress.best if progress.losses else 0
        return (
            progress.epoch >= plan.epochs
            or progress.seconds / 60 >= plan.minutes
            or (plan.patience > 0 and waited >= plan.patience)
        )

    def _save_if_due(self) -> None:
        if self._checkpoint and self._checkpoint.due():
            self._checkpoint.save(self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "progress": dataclasses.asdict(self.progress),
            "module": self._lesson.module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "best": self._best,
            "order": self._epoch_order,
            "chances": [chance.get_state() for chance in self._lesson.chances],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def _go_on(self, state: dict[str, Any]) -> None:
        self.progress = Progress(**state["progress"])
        self._lesson.module.load_state_dict(state["module"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._best = state["best"]
        self._epoch_order = state["order"]
        self._order.set_state(self._epoch_order)
        for chance, kept in zip(self._lesson.chances, state["chances"], strict=True):
            chance.set_state(kept)
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])


def schedule(share: float) -> float:
    """Warm up over the first twentieth, then fall to zero along a cosine."""
    warm = min(1.0, share / _WARM_UP + 0.01)
    return warm * (1 + math.cos(math.pi * share)) / 2


def fast(device: torch.device | str) -> torch.autocast:
    """Compute in bfloat16 where that is fast: on CUDA, and on CPUs that have it."""
    kind = torch.device(device).type
    # Ruinous on other CPUs; the question has no public name.
    enabled = kind == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(kind, torch.bfloat16, enabled=enabled)


def shuffled(count: int, size: int, chance: torch.Generator) -> list[Tensor]:
    """Return whole batches of ``size`` of ``count`` rows in a new order; the rest stays out."""
    rows = torch.randperm(count, generator=chance)
    return list(rows[: count // size * size].view(-1, size))
