"""Parts that more than one family is made of.

Letters: B pictures, N tokens, M tokens that ask (all, or the first few), D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitrail.models.chunks import chunked_attention
from vitrail.models.configs import AttentionPath, BEiTConfig, CCTConfig, Gelu, ViTConfig
from vitrail.models.dropout import Dropout, cheap
from vitrail.models.lora import Rows


class Attends(Protocol):
    """What every attention layer offers; it is known by `attention_path`."""

    attention_path: AttentionPath
    weights: Callable[..., Tensor]  # the arguments of `forward` -> what each token gives each other one (B, H, M, N)


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): adds a residual branch, dropped per picture, the kept ones rescaled."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x + branch
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)  # (B, 1, 1)
        return torch.addcmul(x, branch, mask.div_(keep))

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


def linear_rates(last: float, depth: int) -> list[float]:
    """Drop rates that rise linearly from 0 in the first block to `last` in the last one."""
    return [last * i / max(1, depth - 1) for i in range(depth)]


def gelu(x: Tensor, form: Gelu) -> Tensor:
    """x Phi(x) with the normal distribution's Phi (`erf`), Google's tanh fit of it, or x sigmoid(1.702 x) (`quick`).

    The forms differ by up to 4.7e-4 (tanh) and 2.0e-2 (quick), arXiv 1606.08415 section 2.
    """
    if form == "quick":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if form == "tanh" else "none")


class Blocks(nn.ModuleList):
    """Blocks, one after the other. recompute: in training nothing of a block is kept but what enters it."""

    recompute = False

    def run(self, x: Tensor, *shared: Tensor | None, first: int | None) -> Tensor:
        """All of them, the last one for the first tokens alone; shared: what each is given besides.

        (B, N, D) -> (B, M, D)
        """
        *earlier, last = self
        for block in earlier:
            x = self._through(block, x, *shared)
        x = self._through(last, x, *shared, first)
        return x

    def _through(self, block: nn.Module, *inputs: Tensor | int | None) -> Tensor:
        if self.recompute and self.training:  # masks are drawn again from the same state of torch's generator
            out: Tensor = checkpoint(block, *inputs, use_reentrant=False)
            return out
        through: Tensor = block(*inputs)
        return through


class PatchEmbed(nn.Module):
    """Patches of p x p pixels, each a token.  (B, C, rows p, columns p) -> (B, rows columns, D)"""

    def __init__(self, c: ViTConfig | BEiTConfig, *, bias: bool = True) -> None:
        super().__init__()
        self.proj = nn.Conv2d(c.channels, c.dim, c.patch, c.patch, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)  # (B, D, rows, columns)
        return x.flatten(2).transpose(1, 2)  # (B, N, D)


class Mlp(nn.Module):
    """Two layers with GELU between them.  (B, N, D) -> (B, N, D)"""

    def __init__(self, c: ViTConfig | BEiTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(c.dim, c.hidden)
        self.fc2 = nn.Linear(c.hidden, c.dim)
        self.gelu = c.gelu
        self.dropout = Dropout(c.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(gelu(self.fc1(x), self.gelu))  # (B, N, hidden)
        x = self.dropout(self.fc2(x))
        return x


class Attention(nn.Module):
    """Multi-head self-attention; with `first`, of the first tokens to all.  (B, N, D) -> (B, M, D)"""

    def __init__(self, c: ViTConfig | CCTConfig, *, bias: bool) -> None:
        super().__init__()
        self.heads = c.heads
        self.scale = float(c.dim // c.heads) ** -0.5
        self.qkv = Rows(c.dim, 3 * c.dim, bias=bias)
        self.proj = nn.Linear(c.dim, c.dim)
        self.attn_drop = c.attention_dropout
        self.proj_drop = Dropout(c.dropout)
        self.attention_path: AttentionPath = "explicit"

    def forward(self, x: Tensor, first: int | None = None) -> Tensor:
        dropout = self.attn_drop if self.training else 0.0
        if first is None and in_chunks(x, self.attention_path, training=self.training, dropout=dropout):
            x = chunked_attention(self.qkv(x), heads=self.heads, dropout=dropout)
        else:
            q, k, v = project(x, self.qkv, self.qkv.bias, heads=self.heads, first=first)
            x = attend(q, k, v, self.scale, path=self.attention_path, dropout=dropout).transpose(1, 2).flatten(2)
        x = self.proj_drop(self.proj(x))  # (B, M, D)
        return x

    def weights(self, x: Tensor, first: int | None = None) -> Tensor:
        """What each token takes of each other one.  (B, N, D) -> (B, H, M, N)"""
        q, k, _ = project(x, self.qkv, self.qkv.bias, heads=self.heads, first=first)
        return weigh(q, k, self.scale)


def project(
    x: Tensor, layer: Rows, bias: Tensor | None, *, heads: int, first: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of the first tokens, or of all, and keys and values of all, by a layer (3 D, D) and a bias (3 D,).

    (B, N, D) -> (B, H, M, D/H), 2 x (B, H, N, D/H)
    """
    if first is None:
        q, k, v = split_heads(layer(x, bias), 3, heads)
        return q, k, v
    D = x.shape[-1]  # noqa: N806
    bias_q, bias_kv = (None, None) if bias is None else (bias[:D], bias[D:])
    (q,) = split_heads(layer(x[:, :first], bias_q, slice(0, D)), 1, heads)
    k, v = split_heads(layer(x, bias_kv, slice(D, None)), 2, heads)
    return q, k, v


def split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, N, parts D) -> parts x (B, H, N, D/H)"""
    return torch.unflatten(x, 2, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def weigh(q: Tensor, k: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """softmax(scale q k^T + bias).  (B, H, M, D/H), (B, H, N, D/H), (H, M, N) -> (B, H, M, N)

    scale: 1 / sqrt(D/H), or 1 where it lies in the queries already.
    """
    scores = torch.matmul(q if scale == 1.0 else q * scale, k.transpose(-2, -1))
    return (scores if bias is None else scores + bias).softmax(dim=-1)


def attend(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, path: AttentionPath, dropout: float, bias: Tensor | None = None
) -> Tensor:
    """softmax(scale q k^T + bias) v with dropout on the weights; bias (H, M, N).  -> (B, H, M, D/H)

    `explicit` writes it out, `fused` is torch's kernel: the same numbers up to rounding, at different speeds. Where
    `in_chunks` says so, `chunked_attention` stands in their place.
    """
    if path == "fused":
        mask = None if bias is None else bias[None]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)
    return F.dropout(weigh(q, k, scale, bias), dropout) @ v


def in_chunks(x: Tensor, path: AttentionPath, *, training: bool, dropout: float) -> bool:
    """Whether attention is computed by `chunked_attention`: in training on the processor, on the explicit path.

    Torch's fused kernel has no dropout there and would write it out: with dropout, chunks take its place.
    """
    return training and cheap(x) and (path == "explicit" or dropout > 0.0)


def init_layers(network: nn.Module, generator: torch.Generator) -> None:
    """The usual start of a transformer's layers: truncated normals of 0.02 and zero biases, norms that do nothing.

    Convolutions keep torch's own start, uniform by their fan-in.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
        elif isinstance(module, nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5
            for parameter in module.parameters(recurse=False):
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        elif isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
            nn.init.ones_(module.weight)
        if isinstance(module, (nn.Linear, nn.LayerNorm, nn.GroupNorm)) and module.bias is not None:
            nn.init.zeros_(module.bias)


def same_padding(size: int, side: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: how many are added before and after a side of the picture; an odd one goes to the end.

    >>> same_padding(224, 7, 2)
    (2, 3)
    """
    total = max((-(-size // stride) - 1) * stride + side - size, 0)
    return total // 2, total - total // 2


class SamePool(nn.Module):
    """A 3 x 3 max pool of stride 2 padded by TensorFlow's SAME with -inf.  (B, C, H, W) -> (B, C, H/2, W/2) rounded up

    An even side gets one more at its end, which is torch's `ceil_mode`; an odd one gets one on both ends.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, padding=(x.shape[2] % 2, x.shape[3] % 2), ceil_mode=True)
