import math

import numpy as np
import pytest
import torch

from services.embedder.training.classification import ClassificationObjective
from services.embedder.training.image_dataset import ImageDataset
from tests.fakes.datasets import plain_images, random_images
from tests.fakes.networks import tiny_architecture

pytestmark = pytest.mark.usefixtures("few_drawings")


def objective(held_out: ImageDataset | None = None) -> ClassificationObjective:
    train = plain_images({"dark": 10, "light": 240}, 3)
    unseen = train if held_out is None else held_out
    return ClassificationObjective(tiny_architecture(), train, unseen, seed=1)


def test_labels_are_numbered_by_name() -> None:
    tested = objective()
    assert tested.labels == ["dark", "light"]
    assert tested._targets.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_loss_has_gradients_for_the_network_and_the_directions() -> None:
    tested = objective()
    [rows] = tested.batches(torch.Generator().manual_seed(1))
    loss = tested.loss(rows)
    loss.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(loss.item())
    assert all(parameter.grad is not None for parameter in tested.module.parameters())


@pytest.mark.parametrize(("swapped", "accuracy"), [(False, 1.0), (True, 0.0)])
def test_the_nearest_direction_is_the_predicted_label(swapped: bool, accuracy: float) -> None:
    tested = objective()
    tested.module.eval()
    with torch.no_grad():
        images = torch.from_numpy(tested._train.pixels).permute(0, 3, 1, 2)
        vectors = tested._network(images)[[3, 0] if swapped else [0, 3]]
        tested._directions.weight.copy_(vectors)
        loss = tested.held_out_loss()
    assert tested.accuracy() == accuracy
    assert loss is not None
    assert (loss > math.log(2)) is swapped


def test_nothing_held_out_means_no_held_out_loss() -> None:
    assert objective(random_images(0)).held_out_loss() is None


def test_the_trained_network_has_no_directions() -> None:
    network = objective().network()
    assert list(network.weights()) == ["0.weight", "0.bias", "6.weight", "6.bias"]
    assert network.encode(np.zeros((1, 16, 16, 3), np.uint8)).shape == (1, 8)
