import numpy as np
import pytest
import torch
from torch import nn

from services.embedder.training.trainable_network import TrainableNetwork, unit_norm_loss
from tests.fakes.networks import tiny_architecture


@pytest.fixture
def network() -> TrainableNetwork:
    torch.manual_seed(1)
    return TrainableNetwork(tiny_architecture(mirrored=False))


def views(count: int, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(2)) * 255


def test_only_convolutions_are_normalised(network: TrainableNetwork) -> None:
    normalised = [isinstance(layer, nn.Sequential) for layer in network.layers]
    assert normalised == [True, False, False, False, False, False, False]


def test_the_folded_network_computes_the_same_vectors(network: TrainableNetwork) -> None:
    network.train()
    for _ in range(3):
        network(views(8))  # moves the statistics away from 0 and 1
    network.eval()
    images = views(4).round()
    with torch.no_grad():
        expected = network(images).cpu().numpy()
    pixels = images.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    folded = network.network()
    assert list(folded.weights()) == ["0.weight", "0.bias", "6.weight", "6.bias"]
    # If the processor has bfloat16 instructions, training uses them.
    assert np.abs(folded.encode(pixels) - expected).max() < 0.05
    assert np.abs(expected).max() > 0.2


def test_views_are_resized_to_the_input(network: TrainableNetwork) -> None:
    assert network.resize(views(2, 40)).shape == (2, 3, 16, 16)
    small = views(2)
    assert torch.equal(network.resize(small), small)
    assert network.resize(small.byte()).dtype == torch.float32


def test_norms_other_than_one_are_penalised() -> None:
    assert unit_norm_loss(torch.tensor([[0.6, 0.8], [3.0, 0.0]])).item() == pytest.approx(2)
