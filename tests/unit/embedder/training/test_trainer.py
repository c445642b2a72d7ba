import math
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from services.embedder.training.checkpoints import Checkpoint
from services.embedder.training.trainer import (
    Objective,
    Progress,
    Trainer,
    TrainerConfig,
    autocast_where_fast,
    learning_rate_factor,
    shuffled_batches,
)

TARGET = torch.tensor([[1.0, -2.0, 3.0, 0.5]])


class Interrupted(Exception):
    """Ends a training as a signal would."""


class Regression:
    """Learns a linear function from noisy views of its inputs."""

    learning_rate, weight_decay = 0.1, 0.0

    def __init__(self, held_out_losses: Sequence[float] | None = None) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(4, 1)
        self.noise = torch.Generator().manual_seed(5)
        self.generators = [self.noise]
        self.inputs = torch.randn(32, 4)
        self.steps = 0
        self.interrupt_after: int | None = None
        self._losses = iter(held_out_losses) if held_out_losses else None

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        return shuffled_batches(len(self.inputs), 8, generator)

    def loss(self, rows: Tensor) -> Tensor:
        if self.steps == self.interrupt_after:
            raise Interrupted
        self.steps += 1
        assert self.module.training
        views = self.inputs[rows] + torch.randn(len(rows), 4, generator=self.noise) / 10
        return self._error(views, rows)

    def held_out_loss(self) -> float | None:
        assert not self.module.training
        return next(self._losses) if self._losses else None

    def error(self) -> float:
        with torch.no_grad():
            return self._error(self.inputs, torch.arange(len(self.inputs))).item()

    def _error(self, views: Tensor, rows: Tensor) -> Tensor:
        error: Tensor = (self.module(views) - self.inputs[rows] @ TARGET.T).square().mean()
        return error


class AlwaysDue(Checkpoint):
    def due(self) -> bool:
        return True


def train(objective: Objective, config: TrainerConfig, file: Path | None = None) -> Progress:
    return Trainer(objective, config, AlwaysDue(file, {}) if file else None).run()


def test_training_minimises_the_loss() -> None:
    objective = Regression()
    before = objective.error()
    progress = train(objective, TrainerConfig(max_epochs=40))
    assert objective.error() < before / 20
    assert (progress.epoch, progress.batch, objective.steps) == (40, 0, 160)
    assert progress.seconds > 0
    assert not objective.module.training


def test_equal_seeds_give_equal_weights() -> None:
    weights = []
    for seed in (1, 1, 2):
        objective = Regression()
        train(objective, TrainerConfig(max_epochs=2, seed=seed))
        weights.append(objective.module.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("interruptions", [[6], [1, 4], [3, 4, 5, 1]])
def test_an_interrupted_training_resumes_to_the_same_weights(
    tmp_path: Path, interruptions: list[int]
) -> None:
    config = TrainerConfig(max_epochs=4)
    expected = Regression(held_out_losses=[4, 2, 3, 1])
    train(expected, config)
    losses, steps = [4.0, 2.0, 3.0, 1.0], 0
    for interrupt_after in interruptions:
        objective = Regression(losses[steps // 4 :])
        objective.interrupt_after = interrupt_after
        with pytest.raises(Interrupted):
            train(objective, config, tmp_path / "checkpoint.pt")
        steps += interrupt_after
    resumed = Regression(losses[steps // 4 :])
    progress = train(resumed, config, tmp_path / "checkpoint.pt")
    assert torch.equal(resumed.module.weight, expected.module.weight)
    assert resumed.steps == 16 - steps
    assert progress.held_out_losses == losses


def test_training_stops_early_with_the_best_weights() -> None:
    objective = Regression(held_out_losses=[3, 1, 2, 1.5, 0])
    weights: list[Tensor] = []
    held_out_loss = objective.held_out_loss

    def record() -> float | None:
        weights.append(objective.module.weight.detach().clone())
        return held_out_loss()

    objective.held_out_loss = record  # type: ignore[method-assign]
    progress = train(objective, TrainerConfig(max_epochs=50, patience=2))
    assert (progress.epoch, progress.best_epoch) == (4, 2)
    assert progress.held_out_losses == [3, 1, 2, 1.5]
    assert torch.equal(objective.module.weight, weights[1])


def test_patience_of_zero_never_stops_early() -> None:
    progress = train(Regression(held_out_losses=[1, 2, 3, 4, 5]), TrainerConfig(max_epochs=5))
    assert (progress.epoch, progress.best_epoch) == (5, 1)


def test_training_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 6))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    objective = Regression()
    progress = train(objective, TrainerConfig(max_epochs=1000, max_minutes=1))
    assert objective.steps == 10  # of six seconds each
    assert progress.seconds == 60


def test_a_divergent_training_is_an_error() -> None:
    objective = Regression()
    objective.inputs[0, 0] = math.inf
    with pytest.raises(ValueError, match=r"the training has diverged: the loss is (nan|inf)"):
        train(objective, TrainerConfig(max_epochs=1))


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    factors = [learning_rate_factor(share / 100) for share in range(101)]
    assert 0 < factors[0] < 0.05
    assert factors[:6] == sorted(factors[:6])
    assert factors[6:] == sorted(factors[6:], reverse=True)
    assert max(factors) > 0.98
    assert factors[-1] == pytest.approx(0, abs=1e-9)


def test_batches_are_whole_and_have_each_row_once() -> None:
    batches = shuffled_batches(10, 3, torch.Generator().manual_seed(1))
    assert [len(batch) for batch in batches] == [3, 3, 3]
    rows = torch.cat(batches).tolist()
    assert len(set(rows)) == 9
    assert rows != sorted(rows)


def test_bfloat16_is_used_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_instructions in (True, False):
        monkeypatch.setattr(
            torch.cpu, "_is_avx512_bf16_supported", lambda has=has_instructions: has
        )
        with autocast_where_fast("cpu"):
            dtype = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        assert dtype == (torch.bfloat16 if has_instructions else torch.float32)
