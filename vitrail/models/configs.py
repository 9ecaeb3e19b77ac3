"""What a network is, as plain values: one frozen dataclass a family, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Pooling = Literal["sequence", "class"]
Positions = Literal["learned", "sine", "none"]


@dataclass(frozen=True, kw_only=True)
class CCTConfig:
    """A compact transformer of SHI-Labs (arXiv 2104.05704): CCT, and as settings of it CVT and ViT-Lite.

    The tokenizer is `conv_layers` times convolution, and with `max_pool` ReLU and a 3 x 3 max pool of stride 2.
    CCT pools (`max_pool`), CVT and ViT-Lite cut patches (one convolution with bias, stride = kernel).
    """

    image_size: tuple[int, int]  # (height, width)
    channels: int = 3
    classes: int = 1000
    # tokenizer
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    conv_layers: int = 1
    conv_width: int = 64  # channels of every convolution but the last
    conv_bias: bool = False
    max_pool: bool = True
    # encoder
    dim: int = 256
    depth: int = 7
    heads: int = 4
    mlp_ratio: float = 2.0
    pooling: Pooling = "sequence"  # `class`: a class token, as ViT-Lite
    positions: Positions = "learned"
    # noise in training
    dropout: float = 0.0
    attention_dropout: float = 0.1
    drop_path: float = 0.1  # of the last block; earlier ones rise to it linearly from 0

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self._tokens(self.image_size[0]), self._tokens(self.image_size[1])

    def _tokens(self, size: int) -> int:
        for _ in range(self.conv_layers):
            size = (size + 2 * self.padding - self.kernel) // self.stride + 1
            if self.max_pool:
                size = (size + 2 - 3) // 2 + 1
        return size

    def problems(self) -> list[str]:
        """Everything that no network can be built from, one line each."""
        found = []
        if self.dim % self.heads:
            found.append(f"dim {self.dim} is no multiple of heads {self.heads}")
        if min(self.image_size) < 1 or min(self.grid) < 1:
            found.append(f"image_size {self.image_size[0]} x {self.image_size[1]} leaves no token")
        for name in ("channels", "classes", "depth", "heads", "dim", "kernel", "stride", "conv_layers"):
            if getattr(self, name) < 1:
                found.append(f"{name} {getattr(self, name)} is below 1")
        for name in ("dropout", "attention_dropout", "drop_path"):
            if not 0.0 <= getattr(self, name) < 1.0:
                found.append(f"{name} {getattr(self, name)} lies outside 0 to 1")
        return found


ModelConfig = CCTConfig  # the union of all families; a new family is added here
FAMILIES: dict[str, type[ModelConfig]] = {"cct": CCTConfig}


def family_of(config: ModelConfig) -> str:
    """The family's name of a config."""
    return next(name for name, kind in FAMILIES.items() if isinstance(config, kind))
