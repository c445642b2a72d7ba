"""An image network for training, with batch normalisation after each convolution."""

import copy

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from services.embedder.models.architecture import Architecture
from services.embedder.models.network import Network, build
from services.embedder.training.trainer import autocast_where_fast

LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.02
TEMPERATURE = 0.08
_UNIT_NORM_WEIGHT = 1.0


class TrainableNetwork(nn.Module):
    """A declared network with batch normalisation (https://arxiv.org/abs/1502.03167)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.layers = _with_batch_norm(build(architecture))
        for name in ("mean", "deviation"):
            colours = torch.tensor(getattr(architecture, name)).view(3, 1, 1) * 255
            self.register_buffer(name, colours, persistent=False)
        self.to(
            "cuda" if torch.cuda.is_available() else "cpu",
            memory_format=torch.channels_last,
        )  # type: ignore[call-overload]

    def forward(self, views: Tensor) -> Tensor:
        """Encode views, float32 [n, 3, side, side] from 0 to 255, as float32 [n, dimensions]."""
        pixels = (self.resize(views).to(self.mean.device) - self.mean) / self.deviation
        with autocast_where_fast(self.mean.device):
            vectors: Tensor = self.layers(pixels.contiguous(memory_format=torch.channels_last))
        return vectors.float()

    def resize(self, views: Tensor) -> Tensor:
        """Resize views to the network's input, as float32."""
        size = (self.architecture.side, self.architecture.side)
        if views.shape[2:] == size:
            return views.float()
        return F.interpolate(views.float(), size=size, mode="bilinear", antialias=True)

    def network(self) -> Network:
        """Return the trained network, with batch normalisation folded into the convolutions."""
        return Network(self.architecture, _fold_batch_norm(self.layers).cpu())


def unit_norm_loss(vectors: Tensor) -> Tensor:
    """Penalise norms other than 1, so that inner product and L2 rank as cosine does."""
    loss: Tensor = (vectors.norm(dim=1) - 1).square().mean()
    return _UNIT_NORM_WEIGHT * loss


def _with_batch_norm(layers: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(
        *(
            nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels))
            if isinstance(layer, nn.Conv2d)
            else layer
            for layer in layers
        )
    )


def _fold_batch_norm(layers: nn.Module) -> nn.Sequential:
    copied = copy.deepcopy(layers).eval()
    return nn.Sequential(
        *(
            fuse_conv_bn_eval(*layer)
            if isinstance(layer, nn.Sequential) and isinstance(layer[0], nn.Conv2d)
            else layer
            for layer in copied.children()
        )
    )
