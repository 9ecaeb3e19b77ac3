"""What a network is, as plain values: one frozen dataclass a family, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

AttentionPath = Literal["explicit", "fused"]  # how attention is computed: the same numbers up to rounding
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
        return found


# field: least and greatest value. The upper bounds only keep a forged config from filling the memory.
BOUNDS: dict[str, tuple[float, float]] = {
    "image_size":        (1, 65536),
    "channels":          (1, 4096),
    "classes":           (1, 10_000_000),
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


def _out_of_range(config: ModelConfig) -> list[str]:
    found = []
    for name, kind in get_type_hints(type(config)).items():
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
        return isinstance(value, tuple) and [type(part) for part in value] == list(get_args(kind))
    return type(value) is kind or (kind is float and type(value) is int)


def _in_words(kind: object) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f"`{word}`" for word in get_args(kind))
    if get_origin(kind) is tuple:
        return f"{len(get_args(kind))} whole numbers"
    return {int: "a whole number", float: "a number", bool: "true or false"}[cast(type, kind)]


ModelConfig = CCTConfig  # the union of all families; a new family is added here
FAMILIES: dict[str, type[ModelConfig]] = {"cct": CCTConfig}


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
    known = get_type_hints(kind)
    given = {name: value for name, value in values.items() if name != "family"}
    if odd := sorted(str(name) for name in given if name not in known):
        raise ValueError(f"model config has unknown keys: {', '.join(odd)}")
    if missing := [name for name in known if name not in given]:
        raise ValueError(f"model config lacks {', '.join(missing)}")
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    config = kind(**plain)
    if problems := config.problems():
        raise ValueError(f"model config does not hold: {'; '.join(problems)}")
    return config
