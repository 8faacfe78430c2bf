"""The network: a small U-Net (Ronneberger, Fischer & Brox 2015, ADS 2015arXiv150504597R), a logit for each pixel."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from astrid.detection.unet.inputs import CHANNELS

VERSION = 1  # of the architecture; weights of another do not fit
BASES = {"small": 8, "base": 16}  # channels at full resolution
DEPTH = 3  # times that the resolution is halved
MULTIPLE = 2**DEPTH  # sides of an image must be multiples of it


def build(architecture: str) -> UNetwork:
    """Return an untrained network.

    Raises
    ------
    ValueError
        If there is no such architecture.
    """
    if architecture not in BASES:
        raise ValueError(f"no architecture {architecture!r}; there are {', '.join(BASES)}")
    return UNetwork(BASES[architecture])


class UNetwork(nn.Module):
    """Planes (n, 5, ny, nx) in, one logit per pixel (n, ny, nx) out; sides are multiples of 8."""

    def __init__(self, base: int) -> None:
        super().__init__()
        widths = [base * 2**k for k in range(DEPTH + 1)]
        self.down = nn.ModuleList([Twice(len(CHANNELS), widths[0]), *map(Twice, widths[:-1], widths[1:])])
        self.widen = nn.ModuleList([nn.ConvTranspose2d(widths[k + 1], widths[k], 2, 2) for k in range(DEPTH)])
        self.up = nn.ModuleList([Twice(2 * widths[k], widths[k]) for k in range(DEPTH)])
        self.last = nn.Conv2d(base, 1, 1)

    def forward(self, planes: Tensor) -> Tensor:
        """Return the logits."""
        kept, x = [], planes
        for block in list(self.down)[:-1]:
            x = block(x)
            kept.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.down[-1](x)
        for level in reversed(range(DEPTH)):
            x = self.up[level](torch.cat([kept[level], self.widen[level](x)], dim=1))
        return cast(Tensor, self.last(x))[:, 0]

    def folded(self) -> UNetwork:
        """Return the same network for use, with the normalisation part of the convolutions; this one is changed."""
        self.eval()
        for module in self.modules():
            if isinstance(module, Twice):
                module.fold()
        return channels_last(self)


def channels_last(network: UNetwork) -> UNetwork:
    """Lay the weights out the way that convolutions are fastest in, in place."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


class Twice(nn.Module):
    """Two convolutions of 3 x 3 pixels, each with a normalisation and what is positive of it."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.first_norm: nn.Module = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm: nn.Module = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        x = torch.relu_(self.first_norm(self.first(x)))
        return torch.relu_(self.second_norm(self.second(x)))

    def fold(self) -> None:
        """Make the normalisations part of the convolutions; they must be those of use, not of training."""
        for name in ("first", "second"):
            norm = getattr(self, f"{name}_norm")
            if isinstance(norm, nn.BatchNorm2d):
                setattr(self, name, fuse_conv_bn_eval(getattr(self, name), norm))
                setattr(self, f"{name}_norm", nn.Identity())
