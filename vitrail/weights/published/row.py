"""What is known of one published weight file, or of one model of the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from vitrail.class_names import COUNTS, ClassSet
from vitrail.models.catalog import VARIANTS
from vitrail.models.configs import CCTConfig, Gelu, ModelConfig, ViTConfig
from vitrail.pictures.policy import Policy

Protocol = Literal["timm", "google", "vit-keras", "huggingface", "shi_labs", "unilm"]  # whose evaluation a policy is
Whose = Literal["trained", "timm"]


@dataclass(frozen=True)
class Measured:
    """An accuracy in per cent, and who measured it."""

    by: str
    top1: float
    top5: float | None = None


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published file, or one model of the hub.

    overrides: fields of the variant's config in which the network inside differs. policy: pictures as `protocol`
    prepares them. gelu_timm: what timm runs on the same weights, and transformers and vit-keras on theirs; None where
    nobody does.
    """

    name: str
    variant: str  # of the catalogue
    url: str  # https, or hf:OWNER/NAME
    dialect: str
    classes: ClassSet
    policy: Policy
    protocol: Protocol
    head_valid: bool = True  # False: there is no head, or one of zeros
    gelu_trained: Gelu
    gelu_timm: Gelu | None = None
    eps: float = 1e-6  # of every LayerNorm, as trained or as published
    overrides: Mapping[str, object] = field(default_factory=dict, hash=False)
    licence: str = "Apache-2.0"  # SPDX
    measured: tuple[Measured, ...] = ()
    mib: float | None = None  # as listed, rounded
    size: int | None = None  # exact bytes, where known
    sha256_prefix: str = ""  # the first digits, which names of torch's hub carry
    mirror: str = ""  # the same weights elsewhere
    pull_only: bool = False  # a container that is not opened as it is
    source: str

    @property
    def file_name(self) -> str:
        """The last part of the URL; nothing for a model of the hub."""
        return "" if self.url.startswith("hf:") else self.url.rsplit("/", 1)[-1]

    @property
    def count(self) -> int:
        """Outputs of the head."""
        return COUNTS[self.classes]

    @property
    def top1(self) -> float | None:
        """Top-1 by whoever is named first in `measured`."""
        return self.measured[0].top1 if self.measured else None

    @property
    def top5(self) -> float | None:
        """Top-5 likewise."""
        return self.measured[0].top5 if self.measured else None

    def numerics(self, whose: Whose = "trained") -> dict[str, object]:
        """Config fields that no tensor shows: GELU and epsilons, as trained, or as timm runs the weights."""
        config = VARIANTS[self.variant].config
        trained = whose == "trained" or self.gelu_timm is None
        found: dict[str, object] = {"gelu": self.gelu_trained if trained else self.gelu_timm}
        if not isinstance(config, CCTConfig):
            found["eps"] = self.eps
        if isinstance(config, ViTConfig) and config.stem == "resnet":
            found["stem_numerics"] = "google" if trained else "timm"
        return found

    def config(self, whose: Whose = "trained") -> ModelConfig:
        """The network inside, with these numerics."""
        plain: dict[str, object] = {**self.overrides, **self.numerics(whose)}
        return replace(VARIANTS[self.variant].config, **plain)  # type: ignore[arg-type]
