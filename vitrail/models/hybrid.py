"""The ResNet in front of a hybrid vision transformer: BiT's ResNetV2 (Kolesnikov et al. 2019, arXiv 1912.11370), with
standardised kernels (arXiv 1903.10520), group norms after every convolution, and TensorFlow's padding.

Letters: B pictures, C channels, H x W pixels, w width of the stem, D width of the tokens, N tokens. The parameter names
are timm's; github.com/google-research/vision_transformer vit_jax/models_resnet.py is the source.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.configs import GROUP_EPS, StemNumerics, ViTConfig
from vitrail.models.layers import SamePool, same_padding

GROUPS = 32


class StdConv(nn.Conv2d):
    """A convolution whose kernel is brought to mean 0 and spread 1 for each output.  (B, wide, H, W) -> (B, out, ..)"""

    def __init__(self, wide: int, out: int, side: int, stride: int, numerics: StemNumerics) -> None:
        super().__init__(wide, out, side, stride, bias=False)
        self.numerics = numerics

    def forward(self, x: Tensor) -> Tensor:
        side, stride = self.kernel_size[0], self.stride[0]
        (top, bottom), (left, right) = (same_padding(size, side, stride) for size in x.shape[2:])
        if (bottom, right) != (top, left):  # what a convolution cannot pad itself: one more at the end
            x = F.pad(x, (0, right - left, 0, bottom - top))
        return F.conv2d(x, self.standardised(), None, stride, (top, left))

    def standardised(self) -> Tensor:
        """The kernel as it is used; the two worlds guard the division in ways of their own."""
        centred = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        variance = centred.square().mean(dim=(1, 2, 3), keepdim=True)
        if self.numerics == "google":
            return centred / (variance.sqrt() + 1e-5)
        return centred / (variance + 1e-8).sqrt()


class Stem(nn.Module):
    """The first convolution and pool.  (B, C, H, W) -> (B, w, H/4, W/4)"""

    def __init__(self, c: ViTConfig) -> None:
        super().__init__()
        self.conv = StdConv(c.channels, c.stem_width, 7, 2, c.stem_numerics)
        self.norm = _norm(c.stem_width, c)
        self.pool = SamePool()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.norm(self.conv(x)).relu())
        return x


class Downsample(nn.Module):
    """The shortcut where sides or channels change.  (B, wide, H, W) -> (B, out, H/stride, W/stride)"""

    def __init__(self, c: ViTConfig, wide: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv = StdConv(wide, out, 1, stride, c.stem_numerics)
        self.norm = _norm(out, c)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x


class Unit(nn.Module):
    """Bottleneck: 1 x 1, 3 x 3, 1 x 1, added to the shortcut.  (B, wide, H, W) -> (B, 4 inner, H/stride, W/stride)"""

    def __init__(self, c: ViTConfig, wide: int, inner: int, stride: int) -> None:
        super().__init__()
        out, numerics = 4 * inner, c.stem_numerics
        self.downsample = Downsample(c, wide, out, stride) if (wide, stride) != (out, 1) else nn.Identity()
        self.conv1 = StdConv(wide, inner, 1, 1, numerics)
        self.norm1 = _norm(inner, c)
        self.conv2 = StdConv(inner, inner, 3, stride, numerics)
        self.norm2 = _norm(inner, c)
        self.conv3 = StdConv(inner, out, 1, 1, numerics)
        self.norm3 = _norm(out, c)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample(x)
        x = self.norm1(self.conv1(x)).relu()
        x = self.norm2(self.conv2(x)).relu()
        x = self.norm3(self.conv3(x))
        x = (x + shortcut).relu()
        return x


class Stage(nn.Module):
    """Units of one width; all stages but the first halve the sides.  (B, wide, H, W) -> (B, 4 inner, ..)"""

    def __init__(self, c: ViTConfig, place: int) -> None:
        super().__init__()
        inner = c.stem_width * 2**place
        wide = 2 * inner if place else inner  # the stage before gave 4 times half our inner width
        self.blocks = nn.Sequential(
            Unit(c, wide, inner, stride=2 if place else 1),
            *(Unit(c, 4 * inner, inner, stride=1) for _ in range(c.stages[place] - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        return x


class HybridEmbed(nn.Module):
    """Patches of what the ResNet gives, each a token.  (B, C, H, W) -> (B, N, D)"""

    def __init__(self, c: ViTConfig) -> None:
        super().__init__()
        stages = nn.Sequential(*(Stage(c, place) for place in range(len(c.stages))))
        self.backbone = nn.Sequential(OrderedDict(stem=Stem(c), stages=stages)) if c.stages else Stem(c)
        width = 4 * c.stem_width * 2 ** (len(c.stages) - 1) if c.stages else c.stem_width
        self.proj = nn.Conv2d(width, c.dim, c.patch, c.patch, bias=not c.pre_norm)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(self.backbone(x))  # (B, D, rows, columns)
        return x.flatten(2).transpose(1, 2)  # (B, N, D)

    def init_weights(self, generator: torch.Generator) -> None:
        """Kaiming kernels, and units that begin as their shortcuts; a stem without stages keeps torch's own start."""
        if isinstance(self.backbone, Stem):
            return
        for module in self.backbone.modules():
            if isinstance(module, StdConv):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            elif isinstance(module, Unit):
                nn.init.zeros_(module.norm3.weight)


def _norm(width: int, c: ViTConfig) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, width, GROUP_EPS[c.stem_numerics])
