"""Tiny image networks with random weights."""

import json
from typing import Any

import torch

from services.embedder.models import architecture
from services.embedder.models.architecture import Architecture
from services.embedder.models.network import Network, build

DECLARATION: dict[str, Any] = {
    "format": 1,
    "name": "tiny",
    "side": 16,
    "mean": [0.5, 0.5, 0.5],
    "deviation": [0.25, 0.25, 0.25],
    "mirrored": True,
    "layers": [
        {"type": "convolution", "channels": 4, "kernel": 3},
        {"type": "activation", "function": "relu"},
        {"type": "pooling", "kind": "max", "size": 2},
        {"type": "activation", "function": "tanh"},
        {"type": "pooling", "kind": "average", "size": 2},
        {"type": "flatten"},
        {"type": "dense", "units": 8},
    ],
}


def tiny_architecture(**changes: Any) -> Architecture:
    """Return the declared architecture, with changes."""
    return architecture.parse(json.dumps(DECLARATION | changes))


def tiny_network(**changes: Any) -> Network:
    """Return a network with random weights, which are always the same."""
    declared = tiny_architecture(**changes)
    torch.manual_seed(3)
    return Network(declared, build(declared))
