import math

import numpy as np
import pytest
import torch

from services.embedder.training.contrastive import ContrastiveObjective, nt_xent
from services.embedder.training.trainable_network import TEMPERATURE
from tests.fakes.datasets import random_images
from tests.fakes.networks import tiny_architecture

pytestmark = pytest.mark.usefixtures("few_drawings")


def objective(count: int = 5, held_out: int = 4) -> ContrastiveObjective:
    train, unseen = random_images(count), random_images(held_out, seed=9)
    return ContrastiveObjective(tiny_architecture(), train, unseen, seed=1)


def test_nt_xent_is_the_cross_entropy_of_the_other_view() -> None:
    vectors = torch.tensor([[2.0, 0.0], [0.0, 3.0], [4.0, 0.0], [0.0, 1.0]])  # two equal pairs
    positive, negative = math.exp(1 / TEMPERATURE), math.exp(0)
    expected = -math.log(positive / (positive + 2 * negative))
    assert nt_xent(vectors).item() == pytest.approx(expected, abs=1e-6)


def test_nt_xent_is_high_where_the_views_of_an_image_differ() -> None:
    same = torch.eye(4).repeat(2, 1)
    other = torch.cat([torch.eye(4), torch.eye(4).roll(1, 0)])
    assert nt_xent(other).item() > nt_xent(same).item() + 5


def test_cutouts_are_added_to_the_training_images() -> None:
    [batch] = objective(count=5).batches(torch.Generator().manual_seed(1))
    assert sorted(batch.tolist()) == list(range(7))  # 5 images and 2 cut-outs


def test_a_single_image_has_no_cutout() -> None:
    [batch] = objective(count=1).batches(torch.Generator().manual_seed(1))
    assert batch.tolist() == [0]


def test_the_loss_has_gradients_for_all_parameters() -> None:
    tested = objective()
    loss = tested.loss(torch.arange(7))
    loss.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(loss.item())
    assert all(parameter.grad is not None for parameter in tested.module.parameters())


def test_the_held_out_loss_is_the_same_every_time() -> None:
    tested = objective()
    tested.module.eval()
    with torch.no_grad():
        first = tested.held_out_loss()
        tested.loss(torch.arange(7))  # draws other views in between
        assert tested.held_out_loss() == first


def test_one_held_out_image_is_too_few() -> None:
    assert objective(held_out=1).held_out_loss() is None
    assert objective(held_out=0).held_out_loss() is None


def test_the_trained_network_has_the_declared_architecture() -> None:
    network = objective().network()
    assert network.architecture == tiny_architecture()
    assert network.encode(np.zeros((1, 16, 16, 3), np.uint8)).shape == (1, 8)
