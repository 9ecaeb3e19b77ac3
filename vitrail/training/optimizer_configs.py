"""The optimizers as a recipe says them, as plain values without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """What every optimizer has: what it decays, and how much slower it trains what lies far from the head.

    decayed: `family`, two axes or more but not what the family's published recipes spare; `weights`, the matrices and
    kernels named so alone; `all_but_norms`. layer_decay: each layer's rate is that of the next one times this.
    layer_decay_grouping: timm's layers, or unilm's, where the norm after the last block goes with the head.
    """

    name: str
    weight_decay: float = 0.0
    decayed: Literal["family", "weights", "all_but_norms"] = "family"
    layer_decay: float | None = None
    layer_decay_grouping: Literal["timm", "unilm"] = "timm"


@dataclass(frozen=True, kw_only=True)
class AdamW(Grouped):
    """Adam with decoupled weight decay (arXiv 1711.05101)."""

    name: Literal["adamw"] = "adamw"
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1.0e-8


@dataclass(frozen=True, kw_only=True)
class Adam(Grouped):
    """Adam (arXiv 1412.6980); weight decay is added to the gradient."""

    name: Literal["adam"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1.0e-8


@dataclass(frozen=True, kw_only=True)
class AdamWeightDecay(Grouped):
    """AdamW without correction of the moments' bias, as MindSpore's and BERT's: its first steps are far longer."""

    name: Literal["adam_weight_decay"] = "adam_weight_decay"
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1.0e-6


@dataclass(frozen=True, kw_only=True)
class SGD(Grouped):
    """Stochastic gradient descent with momentum; weight decay is added to the gradient."""

    name: Literal["sgd"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = False


@dataclass(frozen=True, kw_only=True)
class Lion(Grouped):
    """The sign of a mean of gradients (arXiv 2302.06675); wants a rate three to ten times smaller than AdamW's."""

    name: Literal["lion"] = "lion"
    weight_decay: float = 0.5
    betas: tuple[float, float] = (0.9, 0.99)


@dataclass(frozen=True, kw_only=True)
class Lamb(Grouped):
    """AdamW whose step in each tensor is as long as its weights (arXiv 1904.00962), for large batches.

    always_adapt: of what is not decayed too, as the paper has it; timm and apex leave that at AdamW's length.
    """

    name: Literal["lamb"] = "lamb"
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1.0e-6
    always_adapt: bool = False


@dataclass(frozen=True, kw_only=True)
class Muon(Grouped):
    """Orthogonalised momentum for the matrices within the blocks, AdamW (betas, eps) for all else.

    adjust: how a matrix's shape changes its rate, by torch's names; `match_rms_adamw` suits AdamW's rate and decay
    (arXiv 2502.16982), `original` wants a rate about thirty times greater.
    """

    name: Literal["muon"] = "muon"
    weight_decay: float = 0.05
    momentum: float = 0.95
    nesterov: bool = True
    newton_schulz: int = 5  # steps of the orthogonalisation
    adjust: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1.0e-8


Optimizer = AdamW | Adam | AdamWeightDecay | SGD | Lion | Lamb | Muon
