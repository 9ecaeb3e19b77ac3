"""What a network is, as plain values: one frozen dataclass a family, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

AttentionPath = Literal["explicit", "fused"]  # how attention is computed: the same numbers up to rounding
Gelu = Literal["erf", "tanh", "quick"]  # x Phi(x), its tanh approximation, x sigmoid(1.702 x)
Pooling = Literal["sequence", "class"]
TokenPooling = Literal["class", "mean"]  # what enters the head: the class token, or the mean of the picture's tokens
Positions = Literal["learned", "sine", "none"]
PoolPadding = Literal["torch", "same"]  # 1 on every side, or TensorFlow's rule: at even sizes at the end only
Stem = Literal["patches", "resnet"]
StemNumerics = Literal["timm", "google"]  # what GroupNorm adds to the variance and where a kernel's spread gets its own


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
    pool_padding: PoolPadding = "torch"  # `same` in the MindSpore port
    # encoder
    dim: int = 256
    depth: int = 7
    heads: int = 4
    mlp_ratio: float = 2.0
    gelu: Gelu = "erf"
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

    @property
    def tokens(self) -> int:
        """Rows of the position table: the grid, and the class token where there is one."""
        return self.grid[0] * self.grid[1] + (self.pooling == "class")

    def after_convolution(self, size: int) -> int:
        """A side of the picture after one convolution of the tokenizer."""
        return (size + 2 * self.padding - self.kernel) // self.stride + 1

    def after_pool(self, size: int) -> int:
        """A side of the picture after the pool that follows a convolution, where there is one."""
        return (size - 1) // 2 + 1 if self.max_pool else size

    def _tokens(self, size: int) -> int:
        for _ in range(self.conv_layers):
            size = self.after_pool(self.after_convolution(size))
        return size

    def problems(self) -> list[str]:
        """Everything that no network can be built from, one line each."""
        found = _out_of_range(self)
        if found:
            return found
        if self.dim % self.heads:
            found.append(f"dim {self.dim} is no multiple of heads {self.heads}")
        if int(self.dim * self.mlp_ratio) < 1:
            found.append(f"mlp_ratio {self.mlp_ratio:g} leaves no hidden unit")
        if min(self.grid) < 1:
            found.append(f"image_size {self.image_size[0]} x {self.image_size[1]} leaves no token")
        if not self.classes:
            found.append("classes 0 (no head) is for the families vit and beit")
        return found


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """A vision transformer (arXiv 2010.11929), from plain patches or behind a ResNet stem (R+Ti, R26, R50).

    Every field is there for a published weight or for a recorded answer of its original code.
    """

    image_size: tuple[int, int]  # (height, width)
    channels: int = 3
    classes: int = 1000  # 0: no head, the answer is the features
    # tokens
    patch: int = 16  # side, in pixels, or behind a ResNet in its cells
    stem: Stem = "patches"
    stages: tuple[int, ...] = ()  # units of each stage of the ResNet; none: its first convolution alone, as R+Ti/16
    stem_width: int = 64
    stem_numerics: StemNumerics = "timm"
    class_token: bool = True
    distilled: bool = False  # a second class token with a head of its own; the answer is the mean of both (DeiT)
    register_tokens: int = 0
    class_position: bool = True  # the position table has rows for class and register tokens too
    pre_norm: bool = False  # a norm before the first block; the patches then have no bias
    # encoder
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    layer_scale: bool = False
    gelu: Gelu = "erf"
    eps: float = 1e-6  # of every LayerNorm
    # head
    pooling: TokenPooling = "class"
    fc_norm: bool = False  # the last norm stands after the pooling in place of before it
    pre_logits: int = 0  # width of a tanh layer before the head
    # training
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.0  # of the last block; earlier ones rise to it linearly from 0
    layer_scale_init: float = 1e-5

    @property
    def cell(self) -> int:
        """Pixels on a side of what one cell of the patch kernel sees: 1, or what the ResNet shrinks by."""
        return 1 if self.stem == "patches" else 4 * 2 ** max(0, len(self.stages) - 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return _grid(self.image_size, self.cell, self.patch)

    @property
    def prefix(self) -> int:
        """Tokens before those of the picture."""
        return self.class_token + self.distilled + self.register_tokens

    @property
    def tokens(self) -> int:
        """All tokens of a picture."""
        return self.prefix + self.grid[0] * self.grid[1]

    @property
    def position_rows(self) -> int:
        """Rows of the position table."""
        return self.tokens if self.class_position else self.tokens - self.prefix

    @property
    def hidden(self) -> int:
        """Width inside the MLP."""
        return round(self.dim * self.mlp_ratio)

    def problems(self) -> list[str]:
        """Everything that no network can be built from, one line each."""
        found = _out_of_range(self)
        if found:
            return found
        found += _no_encoder(self)
        found += _no_patches(self.image_size, self.cell * self.patch)
        if self.stem == "patches" and self.stages:
            found.append(f"stages {self.stages} are for stem `resnet`")
        if self.stem == "resnet" and self.stem_width % 32:
            found.append(f"stem_width {self.stem_width} is no multiple of the 32 groups of its norms")
        if self.pooling == "class" and not self.class_token:
            found.append("pooling `class` without class_token")
        if self.pooling == "class" and self.fc_norm:
            found.append("fc_norm is for pooling `mean`")
        if self.distilled and (self.pooling != "class" or self.pre_logits or self.register_tokens):
            found.append("distilled is for pooling `class`, without pre_logits and register_tokens")
        return found


@dataclass(frozen=True, kw_only=True)
class BEiTConfig:
    """A BEiT or BEiT v2 classifier (arXiv 2106.08254, 2208.06366): relative positions in every attention."""

    image_size: tuple[int, int]  # (height, width)
    channels: int = 3
    classes: int = 1000  # 0: no head, the answer is the features
    patch: int = 16
    # positions
    absolute_positions: bool = False
    block_bias: bool = True  # a table of relative positions in each block
    shared_bias: bool = False  # one table for all blocks
    # encoder
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    qkv_bias: bool = True  # of queries and values; keys have none
    key_bias: bool = False  # keys have one too (a MindSpore port): it cannot change an answer
    layer_scale: bool = True
    gelu: Gelu = "erf"
    eps: float = 1e-6  # of every LayerNorm
    pooling: TokenPooling = "mean"  # with the norm after the mean; `class`: with the norm before
    # training
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.0  # of the last block; earlier ones rise to it linearly from 0
    layer_scale_init: float = 0.1
    head_init: float = 0.001  # a new head is multiplied by it

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return _grid(self.image_size, 1, self.patch)

    @property
    def prefix(self) -> int:
        """Tokens before those of the picture: the class token."""
        return 1

    @property
    def tokens(self) -> int:
        """All tokens of a picture."""
        return 1 + self.grid[0] * self.grid[1]

    @property
    def distances(self) -> int:
        """Rows of a table of relative positions: each distance of two patches, and three for the class token."""
        return (2 * self.grid[0] - 1) * (2 * self.grid[1] - 1) + 3

    @property
    def hidden(self) -> int:
        """Width inside the MLP."""
        return round(self.dim * self.mlp_ratio)

    def problems(self) -> list[str]:
        """Everything that no network can be built from, one line each."""
        found = _out_of_range(self)
        if found:
            return found
        found += _no_encoder(self)
        found += _no_patches(self.image_size, self.patch)
        if self.key_bias and not self.qkv_bias:
            found.append("key_bias without qkv_bias")
        return found


ModelConfig = CCTConfig | ViTConfig | BEiTConfig  # the union of all families; a new family is added here
FAMILIES: dict[str, type[ModelConfig]] = {"cct": CCTConfig, "vit": ViTConfig, "beit": BEiTConfig}

# Fields that act in training only: networks that differ in nothing else have the same tensors and the same answers.
TRAINING_ONLY = ("dropout", "attention_dropout", "drop_path", "layer_scale_init", "head_init")

# Fields that no tensor shows and every answer depends on: how a network computes.
NUMERICS = ("gelu", "eps", "stem_numerics", "pool_padding")
GROUP_EPS: dict[StemNumerics, float] = {"timm": 1e-5, "google": 1e-6}  # of the ResNet's group norms
CCT_EPS = 1e-5  # of a CCT's LayerNorms: torch's own, which SHI-Labs' networks use

# Fields that a family got after files of it had been written; such a file means their defaults.
_LATER: dict[str, tuple[str, ...]] = {"cct": ("pool_padding", "gelu")}


def _grid(image_size: tuple[int, int], cell: int, patch: int) -> tuple[int, int]:
    rows, columns = (-(-size // cell) // patch for size in image_size)  # a ResNet rounds up, patches down
    return rows, columns


def _no_encoder(config: ViTConfig | BEiTConfig) -> list[str]:
    found = []
    if config.dim % config.heads:
        found.append(f"dim {config.dim} is no multiple of heads {config.heads}")
    if config.hidden < 1:
        found.append(f"mlp_ratio {config.mlp_ratio:g} leaves no hidden unit")
    return found


def _no_patches(image_size: tuple[int, int], side: int) -> list[str]:
    """The sides of a picture that patches do not fill: cutting it silently would change the answer."""
    found = []
    for what, size in zip(("height", "width"), image_size, strict=True):
        if size % side:
            near = [str(fit) for fit in (size // side * side, size // side * side + side) if fit]
            found.append(
                f"image_size: the {what} {size} is no multiple of the patch, {side} pixels; {' or '.join(near)} is"
            )
    return found


# field: least and greatest value. The upper bounds only keep a forged config from filling the memory.
BOUNDS: dict[str, tuple[float, float]] = {
    "image_size":        (1, 65536),
    "channels":          (1, 4096),
    "classes":           (0, 10_000_000),
    "patch":             (1, 256),
    "stages":            (1, 64),
    "stem_width":        (1, 65536),
    "register_tokens":   (0, 1024),
    "eps":               (0, 0.1),
    "pre_logits":        (0, 65536),
    "layer_scale_init":  (0, 10),
    "head_init":         (0, 10),
    "kernel":            (1, 256),
    "stride":            (1, 256),
    "padding":           (0, 256),
    "conv_layers":       (1, 64),
    "conv_width":        (1, 65536),
    "dim":               (1, 65536),
    "depth":             (1, 1024),
    "heads":             (1, 4096),
    "mlp_ratio":         (0, 1024),
    "dropout":           (0, 0.99),
    "attention_dropout": (0, 0.99),
    "drop_path":         (0, 0.99),
}  # fmt: skip


@cache
def _kinds(family: str) -> dict[str, Any]:
    """Each field's type; found once, for texts must be evaluated for it."""
    return get_type_hints(FAMILIES[family])


def _out_of_range(config: ModelConfig) -> list[str]:
    found = []
    for name, kind in _kinds(family_of(config)).items():
        value = getattr(config, name)
        if not _is_a(value, kind):
            found.append(f"{name} {value!r} is not {_in_words(kind)}")
        elif name in BOUNDS:
            low, high = BOUNDS[name]
            if not all(low <= part <= high for part in (value if isinstance(value, tuple) else (value,))):
                found.append(f"{name} {value!r} lies outside {low:g} to {high:g}")
    return found


def _is_a(value: object, kind: object) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = get_args(kind)
        wanted = [kinds[0]] * len(value) if kinds[-1] is Ellipsis else list(kinds)
        return len(value) <= 8 and [type(part) for part in value] == wanted
    return type(value) is kind or (kind is float and type(value) is int)


def _in_words(kind: object) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f"`{word}`" for word in get_args(kind))
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        return "up to 8 whole numbers" if kinds[-1] is Ellipsis else f"{len(kinds)} whole numbers"
    return {int: "a whole number", float: "a number", bool: "true or false"}[cast(type, kind)]


def family_of(config: ModelConfig) -> str:
    """The family's name of a config."""
    return next(name for name, kind in FAMILIES.items() if isinstance(config, kind))


def config_to_json(config: ModelConfig) -> dict[str, object]:
    """The config as plain values, with its family's name.

    >>> config_to_json(CCTConfig(image_size=(32, 32), classes=10))["family"]
    'cct'
    """
    return {"family": family_of(config)} | {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()
    }


def config_from_json(values: object) -> ModelConfig:
    """The config that `config_to_json` wrote; ValueError naming every key or value that does not hold.

    >>> config_from_json(config_to_json(CCTConfig(image_size=(32, 32)))).image_size
    (32, 32)
    """
    family = values.get("family") if isinstance(values, Mapping) else None
    if not isinstance(values, Mapping) or not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(f"model family {family!r:.80} is not one of {', '.join(FAMILIES)}")
    kind = FAMILIES[family]
    known = _kinds(family)
    given = {name: value for name, value in values.items() if name != "family"}
    if odd := sorted(str(name) for name in given if name not in known):
        raise ValueError(f"model config has unknown keys: {', '.join(odd)}")
    if missing := [name for name in known if name not in given and name not in _LATER.get(family, ())]:
        raise ValueError(f"model config lacks {', '.join(missing)}")
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    config = kind(**plain)
    if problems := config.problems():
        raise ValueError(f"model config does not hold: {'; '.join(problems)}")
    return config
