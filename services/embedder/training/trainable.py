"""An image network while it learns: convolutions normalised, views shrunk to its side."""

import copy

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from services.embedder.models.architecture import Architecture
from services.embedder.models.network import Network, build
from services.embedder.training.trainer import fast

RATE, WEIGHT_DECAY = 2e-3, 0.02
TEMPERATURE = 0.08
_LENGTH_WEIGHT = 1.0


class Trainable(nn.Module):
    """A declared network with batch normalisation, which ``network`` folds away."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.layers = _normalised(build(architecture))
        for name in ("mean", "deviation"):
            colours = torch.tensor(getattr(architecture, name)).view(3, 1, 1) * 255
            self.register_buffer(name, colours, persistent=False)
        self.to(
            "cuda" if torch.cuda.is_available() else "cpu",
            memory_format=torch.channels_last,
        )  # type: ignore[call-overload]

    def forward(self, views: Tensor) -> Tensor:
        """Encode views, float32 [n, 3, side, side] from 0 to 255; return [n, dimensions]."""
        planes = (self.shrink(views).to(self.mean.device) - self.mean) / self.deviation
        with fast(self.mean.device):
            vectors: Tensor = self.layers(planes.contiguous(memory_format=torch.channels_last))
        return vectors.float()

    def shrink(self, views: Tensor) -> Tensor:
        """Bring views to the network's side."""
        size = (self.architecture.side, self.architecture.side)
        if views.shape[2:] == size:
            return views.float()
        return F.interpolate(views.float(), size=size, mode="bilinear", antialias=True)

    def network(self) -> Network:
        """Return what was learned, as it is kept."""
        return Network(self.architecture, _folded(self.layers).cpu())


def length_loss(vectors: Tensor) -> Tensor:
    """Pull lengths towards 1, so that inner product and L2 rank well, too."""
    loss: Tensor = (vectors.norm(dim=1) - 1).square().mean()
    return _LENGTH_WEIGHT * loss


def _normalised(layers: nn.Sequential) -> nn.Sequential:
    """Follow every convolution by batch normalisation (https://arxiv.org/abs/1502.03167)."""
    return nn.Sequential(
        *(
            nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels))
            if isinstance(layer, nn.Conv2d)
            else layer
            for layer in layers
        )
    )


def _folded(layers: nn.Module) -> nn.Sequential:
    """Fold the normalisation into the convolutions: the network that is kept needs none."""
    kept = copy.deepcopy(layers).eval()
    return nn.Sequential(
        *(
            fuse_conv_bn_eval(*layer)
            if isinstance(layer, nn.Sequential) and isinstance(layer[0], nn.Conv2d)
            else layer
            for layer in kept.children()
        )
    )
