"""BEiT and BEiT v2 classifiers (Bao et al. 2021, arXiv 2106.08254; Peng et al. 2022, arXiv 2208.06366).

Letters: B pictures, C channels, p x p pixels of a patch, N tokens, M tokens that ask, T rows of a table of relative
positions, D width, K classes, H heads. The parameter names are those of github.com/microsoft/unilm and timm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.chunks import chunked_attention
from vitrail.models.configs import AttentionPath, BEiTConfig
from vitrail.models.dropout import Dropout
from vitrail.models.layers import (
    Blocks,
    DropPath,
    Mlp,
    PatchEmbed,
    attend,
    in_chunks,
    init_layers,
    linear_rates,
    project,
    weigh,
)
from vitrail.models.lora import Rows
from vitrail.models.tables import patch_places


class RelativePositions(nn.Module):
    """A table of relative positions for all blocks.  (M, N) -> (H, M, N)"""

    def __init__(self, c: BEiTConfig) -> None:
        super().__init__()
        self.relative_position_bias_table = _table(c)

    def forward(self, index: Tensor) -> Tensor:
        return _look_up(self.relative_position_bias_table, index)


class Attention(nn.Module):
    """Multi-head self-attention with a bias for relative positions; with `first`, of the first tokens to all.

    index (N, N): rows of the table. shared (H, N, N): the bias that all blocks have.  (B, N, D) -> (B, M, D)
    """

    def __init__(self, c: BEiTConfig) -> None:
        super().__init__()
        self.heads = c.heads
        self.scale = float(c.dim // c.heads) ** -0.5
        self.q_bias = nn.Parameter(torch.empty(c.dim)) if c.qkv_bias else None
        # A key bias b adds q b to all scores of a query alike, and softmax takes it out: it changes no answer.
        self.k_bias = nn.Parameter(torch.empty(c.dim)) if c.key_bias else None
        self.v_bias = nn.Parameter(torch.empty(c.dim)) if c.qkv_bias else None
        self.relative_position_bias_table = _table(c) if c.block_bias else None
        self.qkv = Rows(c.dim, 3 * c.dim, bias=False)
        self.proj = nn.Linear(c.dim, c.dim)
        self.attn_drop = c.attention_dropout
        self.proj_drop = Dropout(c.dropout)
        self.attention_path: AttentionPath = "explicit"

    def forward(
        self, x: Tensor, index: Tensor | None, shared: Tensor | None = None, first: int | None = None
    ) -> Tensor:
        bias, dropout = self.bias(index, shared, first), self.attn_drop if self.training else 0.0
        if first is None and in_chunks(x, self.attention_path, training=self.training, dropout=dropout):
            qkv = self.qkv(x, self.qkv_bias())
            x = chunked_attention(qkv, heads=self.heads, dropout=dropout, bias=bias)
        else:
            q, k, v = project(x, self.qkv, self.qkv_bias(), heads=self.heads, first=first)
            x = attend(q, k, v, self.scale, path=self.attention_path, dropout=dropout, bias=bias)
            x = x.transpose(1, 2).flatten(2)
        x = self.proj_drop(self.proj(x))  # (B, M, D)
        return x

    def qkv_bias(self) -> Tensor | None:
        """(3 D,), keys as a rule with zeros"""
        if self.q_bias is None or self.v_bias is None:
            return None
        k_bias = torch.zeros_like(self.q_bias) if self.k_bias is None else self.k_bias
        return torch.cat([self.q_bias, k_bias, self.v_bias])

    def bias(self, index: Tensor | None, shared: Tensor | None, first: int | None) -> Tensor | None:
        """What the shared and the block's own table add to the scores.  (H, M, N)"""
        bias = None if shared is None else shared[:, :first]
        if self.relative_position_bias_table is not None and index is not None:
            own = _look_up(self.relative_position_bias_table, index[:first])
            bias = own if bias is None else bias + own
        return bias

    def weights(
        self, x: Tensor, index: Tensor | None, shared: Tensor | None = None, first: int | None = None
    ) -> Tensor:
        """What each token takes of each other one.  (B, N, D) -> (B, H, M, N)"""
        q, k, _ = project(x, self.qkv, self.qkv_bias(), heads=self.heads, first=first)
        return weigh(q, k, self.scale, self.bias(index, shared, first))


class Block(nn.Module):
    """Pre-norm block: attention, then MLP, each scaled and added to the stream; with `first`, for those tokens alone.

    (B, N, D) -> (B, M, D)
    """

    def __init__(self, c: BEiTConfig, drop_path: float) -> None:
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.empty(c.dim)) if c.layer_scale else None
        self.gamma_2 = nn.Parameter(torch.empty(c.dim)) if c.layer_scale else None
        self.norm1 = nn.LayerNorm(c.dim, c.eps)
        self.attn = Attention(c)
        self.norm2 = nn.LayerNorm(c.dim, c.eps)
        self.mlp = Mlp(c)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Tensor, index: Tensor | None, shared: Tensor | None = None, first: int | None = None
    ) -> Tensor:
        x = self.drop_path(x[:, :first], _scale(self.attn(self.norm1(x), index, shared, first), self.gamma_1))
        x = self.drop_path(x, _scale(self.mlp(self.norm2(x)), self.gamma_2))
        return x


class BEiT(nn.Module):
    """A BEiT classifier.  (B, C, H, W) -> (B, K)"""

    places: Tensor | None  # (N - 1,)

    def __init__(self, c: BEiTConfig) -> None:
        super().__init__()
        self.config = c
        # An index (N, N) is made of these when it is needed: a network just opened then holds no more than its file.
        places = torch.from_numpy(patch_places(c.grid)) if c.block_bias or c.shared_bias else None
        self.register_buffer("places", places, persistent=False)
        self.cls_token = nn.Parameter(torch.empty(1, 1, c.dim))
        self.pos_embed = nn.Parameter(torch.empty(1, c.tokens, c.dim)) if c.absolute_positions else None
        self.patch_embed = PatchEmbed(c)
        self.pos_drop = Dropout(c.dropout)
        self.rel_pos_bias = RelativePositions(c) if c.shared_bias else None
        self.blocks = Blocks(Block(c, rate) for rate in linear_rates(c.drop_path, c.depth))
        self.norm = nn.LayerNorm(c.dim, c.eps) if c.pooling == "class" else nn.Identity()
        self.fc_norm = nn.LayerNorm(c.dim, c.eps) if c.pooling == "mean" else nn.Identity()
        self.head = nn.Linear(c.dim, c.classes) if c.classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.features(x))
        return x

    def features(self, x: Tensor) -> Tensor:
        """What enters the head, and in evaluation mode nothing computed besides.  (B, C, H, W) -> (B, D)"""
        if self.config.pooling == "mean":
            x = self.fc_norm(self.tokens(x)[:, 1:].mean(dim=1))
        else:
            x = self.encode(x, first=None if self.training else 1)[:, 0]
        return x

    def tokens(self, x: Tensor) -> Tensor:
        """Every token after the last block and the norm that stands before pooling.  (B, C, H, W) -> (B, N, D)"""
        return self.encode(x, first=None)

    def encode(self, x: Tensor, first: int | None) -> Tensor:
        """All blocks, the last one for the first tokens alone; then the norm.  (B, C, H, W) -> (B, M, D)"""
        x = self.embed(x)
        index = self.relative_index()
        shared = None if self.rel_pos_bias is None else self.rel_pos_bias(index)  # (H, N, N)
        x = self.norm(self.blocks.run(x, index, shared, first=first))
        return x

    def embed(self, x: Tensor) -> Tensor:
        """The tokens that enter the first block.  (B, C, H, W) -> (B, N, D)"""
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)  # (B, N, D)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        x = self.pos_drop(x)
        return x

    def relative_index(self) -> Tensor | None:
        """Rows of the tables of relative positions (N, N), for asking and asked token: `tables.relative_index`."""
        if self.places is None:
            return None
        patches = self.places[:, None] - self.places + self.places[-1]  # (N - 1, N - 1)
        n, last = len(patches), self.config.distances - 1
        itself, to_patch, to_class = (
            patches.new_full(shape, row) for shape, row in (((1, 1), last), ((1, n), last - 2), ((n, 1), last - 1))
        )
        return torch.cat([torch.cat([itself, to_patch], dim=1), torch.cat([to_class, patches], dim=1)])

    def init_weights(self, generator: torch.Generator) -> None:
        """unilm's start: truncated normals of 0.02, torch's own patches, tables of 0, later blocks' outputs smaller."""
        c = self.config
        init_layers(self, generator)
        for module in self.modules():
            if isinstance(module, (Attention, RelativePositions)):
                for parameter in module.parameters(recurse=False):  # biases and tables
                    nn.init.zeros_(parameter)
            elif isinstance(module, Block):
                for parameter in module.parameters(recurse=False):  # the scales
                    nn.init.constant_(parameter, c.layer_scale_init)
        for token in (self.cls_token, self.pos_embed):
            if token is not None:
                nn.init.trunc_normal_(token, std=0.02, generator=generator)
        with torch.no_grad():
            for i in range(c.depth):
                for layer in ("attn.proj", "mlp.fc2"):
                    self.get_parameter(f"blocks.{i}.{layer}.weight").div_((2 * (i + 1)) ** 0.5)
            if c.classes:
                self.get_parameter("head.weight").mul_(c.head_init)


def _table(c: BEiTConfig) -> nn.Parameter:
    return nn.Parameter(torch.empty(c.distances, c.heads))


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    """(T, H), (M, N) -> (H, M, N)"""
    return F.embedding(index, table).permute(2, 0, 1).contiguous()


def _scale(x: Tensor, gamma: Tensor | None) -> Tensor:
    return x if gamma is None else x * gamma
