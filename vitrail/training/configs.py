"""What a training run is told, as plain values without torch. A recipe sums these up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["auto", "fp32", "bf16"]
Attention = Literal["auto", "fused", "explicit"]


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay (arXiv 1711.05101), not of vectors, biases and what a family exempts."""

    name: Literal["adamw"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1.0e-8
    weight_decay: float = 0.05


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Stochastic gradient descent with momentum; weight decay, not of vectors, biases and what a family exempts."""

    name: Literal["sgd"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0


Optimizer = AdamW | SGD


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Linear warm-up, then half a cosine from `lr` to `min_lr`. Exactly one of epochs and steps is given.

    The length counts everything, warm-up included; warm-up is in epochs and may be a fraction.
    """

    name: Literal["cosine"] = "cosine"
    epochs: float | None = None
    steps: int | None = None
    lr: float
    warmup_epochs: float = 0.0
    warmup_lr: float = 0.0
    min_lr: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Constant:
    """One learning rate from the first step to the last, after an optional linear warm-up."""

    name: Literal["constant"] = "constant"
    epochs: float | None = None
    steps: int | None = None
    lr: float
    warmup_epochs: float = 0.0
    warmup_lr: float = 0.0


Schedule = Cosine | Constant


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross-entropy on labels or mixed targets; smoothing s puts 1 - s + s/K on the label and s/K elsewhere."""

    name: Literal["cross_entropy"] = "cross_entropy"
    smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Average:
    """Exponential moving average of the weights: decay min(decay, (1 + step) / (10 + step))."""

    name: Literal["ema"] = "ema"
    decay: float = 0.999


@dataclass(frozen=True, kw_only=True)
class Train:
    """How the steps are taken."""

    seed: int = 0
    clip: float | None = None  # largest global norm of the gradient
    on_nan: Literal["stop", "skip"] = "stop"
    attention: Attention = "auto"
    threads: int | None = None  # of torch; None: as many as the machine gives
    keep_pages: bool = True  # memory that a step frees stays with the process, so that the next one need not ask again


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """When the state is saved. The last step is always saved."""

    every: int = 1  # epochs; 0: only at the end
    keep: int = 2  # newest generations kept, the best one besides
    on_error: Literal["stop", "continue"] = "stop"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """When the held-out pictures are evaluated during training. The end is always evaluated."""

    every: int = 1  # epochs; 0: only at the end
    batch: int = 256
