"""What a training run is told, as plain values without torch. A recipe sums these up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
Attention = Literal["auto", "fused", "explicit"]
DEVICES = ("cpu", "cuda", "mps", "xpu", "npu")  # kinds; `npu` is that of torch's plug-in torch_npu


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What every schedule has. Exactly one of epochs and steps is given: the whole length, warm-up and cooldown in it.

    per: whether the rate moves at every step, once an epoch, or once an epoch but at every step of the warm-up.
    Warm-up is in epochs, and may be a fraction of one, or in steps; it goes from `warmup_lr` towards `lr`, in the form
    `warmup`, with W its length and t counted from 0:
        line      t / W of the way: `lr` would be met one after its last (timm, Google, SHI-Labs)
        ending    t / (W - 1): its last is `lr` (unilm)
        shifted   (t + 1) / W: its first is a step already, its last is `lr` (the model zoo's vit_base)
        harmonic  lr / (W - t), whatever `warmup_lr` is (SHI-Labs' first script)
    """

    name: str
    epochs: float | None = None
    steps: int | None = None
    lr: float
    per: Literal["step", "epoch", "epoch_after_warmup"] = "step"
    warmup_epochs: float = 0.0
    warmup_steps: int | None = None  # in place of warmup_epochs
    warmup_lr: float = 0.0
    warmup: Literal["line", "ending", "shifted", "harmonic"] = "line"
    lr_rule: Literal["fixed", "per_device"] = "fixed"  # per_device: settled to a fixed one, `lr` times the devices


@dataclass(frozen=True, kw_only=True)
class Constant(Curve):
    """One learning rate from the first step to the last, after an optional warm-up."""

    name: Literal["constant"] = "constant"


@dataclass(frozen=True, kw_only=True)
class Falling(Curve):
    """What every schedule that falls has: a least rate, and an end that is held at it.

    warmup_prefix: whether the curve begins after the warm-up, or at the start and is hidden by it (timm's word).
    """

    warmup_prefix: bool = True
    min_lr: float = 0.0
    cooldown_epochs: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Cosine(Falling):
    """Half a cosine from `lr` to `min_lr` (arXiv 1608.03983), over `t_max` epochs or all that is left.

    rise: after t_max it rises again, as torch's CosineAnnealingLR and the model zoo's vit_base have it; else it stays
    at min_lr. cycles: how often it starts anew, each time `cycle_mul` times as long and from `cycle_decay` times the
    rate. k_decay: the exponent of the way (arXiv 2004.05909). min_added: the whole curve lies min_lr higher, as in the
    BEiT of the model zoo.
    """

    name: Literal["cosine"] = "cosine"
    t_max: float | None = None  # epochs
    rise: bool = False
    cycles: int = 1
    cycle_mul: float = 1.0
    cycle_decay: float = 1.0
    k_decay: float = 1.0
    min_added: bool = False


@dataclass(frozen=True, kw_only=True)
class Linear(Falling):
    """A line from `lr` to `min_lr`."""

    name: Literal["linear"] = "linear"


@dataclass(frozen=True, kw_only=True)
class Polynomial(Falling):
    """min_lr + (lr - min_lr) (1 - way)^power."""

    name: Literal["polynomial"] = "polynomial"
    power: float = 0.5


@dataclass(frozen=True, kw_only=True)
class MultiStep(Falling):
    """Times gamma at each milestone, in epochs from the start of the curve; never below min_lr."""

    name: Literal["multi_step"] = "multi_step"
    milestones: tuple[float, ...]
    gamma: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Exponential(Falling):
    """lr gamma^(epochs / every), never below min_lr, or with min_added that much higher throughout."""

    name: Literal["exponential"] = "exponential"
    gamma: float = 0.97
    every: float = 1.0
    min_added: bool = False


Schedule = Cosine | Constant | Linear | Polynomial | MultiStep | Exponential


@dataclass(frozen=True, kw_only=True)
class HardTeacher:
    """Distillation (arXiv 2012.12877): the teacher's class counts as a label, with the weight alpha.

    path: any MODEL. sha256: of its tensors, written by resolving and held against them when the recipe is run again.
    """

    name: Literal["hard"] = "hard"
    path: str
    sha256: str | None = None
    alpha: float = 0.5


@dataclass(frozen=True, kw_only=True)
class SoftTeacher:
    """Distillation (arXiv 1503.02531): the teacher's probabilities at a temperature count, with the weight alpha."""

    name: Literal["soft"] = "soft"
    path: str
    sha256: str | None = None
    alpha: float = 0.5
    temperature: float = 1.0


Teacher = HardTeacher | SoftTeacher


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Softmax cross-entropy on labels or mixed targets.

    smoothing s, with K classes: over `all` it puts 1 - s + s/K on the label and s/K elsewhere (arXiv 1512.00567, torch
    and timm), over the `others` 1 - s and s/(K - 1) (MindSpore's CrossEntropySmooth).

    class_weights `balanced`: what a class's targets count is inverse to its number of training pictures, 1 on average.
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    smoothing: float = 0.0
    smoothing_over: Literal["all", "others"] = "all"
    class_weights: Literal["none", "balanced"] = "none"
    teacher: Teacher | None = None


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropy:
    """Each class a yes or no of its own (arXiv 2110.00476, 2006.07159): sigmoid cross-entropy on the same targets.

    threshold: targets above it count as 1, the others as 0. over_classes: the loss of a picture is the mean over the
    classes (timm), or their sum (big_vision), K times as much.
    """

    name: Literal["bce"] = "bce"
    smoothing: float = 0.0
    smoothing_over: Literal["all", "others"] = "all"
    threshold: float | None = None
    over_classes: Literal["mean", "sum"] = "mean"
    teacher: Teacher | None = None


Loss = CrossEntropy | BinaryCrossEntropy


@dataclass(frozen=True, kw_only=True)
class EMA:
    """Exponential moving average of the weights: decay min(decay, (1 + updates) / (10 + updates))."""

    name: Literal["ema"] = "ema"
    decay: float = 0.999


@dataclass(frozen=True, kw_only=True)
class SWA:
    """The mean of the weights at the ends of epochs (arXiv 1803.05407), after `from_epoch` whole ones.

    Until the first of those ends it is the weights as they are.
    """

    name: Literal["swa"] = "swa"
    from_epoch: int


Average = EMA | SWA


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank adapters (arXiv 2106.09685) beside linear layers of every block: they and the head alone are trained.

    alpha / rank is what an adapter's answer is multiplied by. targets: of a block's layers `qkv`, `proj` (both of the
    attention) and `mlp` (its two).
    """

    name: Literal["lora"] = "lora"
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("qkv", "proj")


TARGETS = ("qkv", "proj", "mlp")


@dataclass(frozen=True, kw_only=True)
class DynamicScale:
    """fp16's loss times a factor that is divided at an overflow and multiplied after `window` steps without one."""

    name: Literal["dynamic"] = "dynamic"
    initial: float = 65536.0
    factor: float = 2.0
    window: int = 2000


@dataclass(frozen=True, kw_only=True)
class FixedScale:
    """fp16's loss times one factor throughout."""

    name: Literal["fixed"] = "fixed"
    value: float


LossScale = DynamicScale | FixedScale


@dataclass(frozen=True, kw_only=True)
class Train:
    """How the steps are taken."""

    seed: int = 0
    freeze: tuple[str, ...] = ()  # parameters by name, `*` and `?` as in file names; `!` takes out again
    accumulate: int = 1  # parts that a batch is computed in, one after the other; its gradient is the same
    clip: float | None = None  # largest global norm of the gradient
    clip_value: float | None = None  # or largest value of each of its elements
    loss_scale: LossScale | None = None  # of fp16; None: none
    fp32: tuple[str, ...] = ()  # layers by name that compute in float32 whatever the precision; patterns as in `freeze`
    on_nan: Literal["stop", "skip"] = "stop"
    attention: Attention = "auto"
    device: str = "auto"  # a kind of DEVICES, or `cuda:3`; auto: the accelerator where there is one
    threads: int | None = None  # of torch; None: as many as the machine gives
    time: str | None = None  # such as 30m or 1h30m: the run ends well with the step in which it has passed
    recompute: bool = False  # blocks are computed again on the way back: the same numbers, slower, in less memory
    compile: bool = False  # blocks by torch.compile, which needs a C++ compiler on the processor
    parallel: Literal["ddp", "fsdp"] = "ddp"  # of several ranks: each has the whole state, or a part of it
    patience: float = 120.0  # seconds that a rank may keep the others waiting; 0: for ever
    keep_pages: bool = True  # memory that a step frees stays with the process, so that the next one need not ask again


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """When the state is saved. The last step is always saved."""

    every: int = 1  # epochs or steps; 0: only at the end
    unit: Literal["epochs", "steps"] = "epochs"
    keep: int = 2  # newest generations kept, the best one besides
    # Of equally good ones the first is the best, or the last; with `last` the first evaluation only sets the mark, so
    # it is never the best (the model zoo's vit_base).
    best: Literal["first", "last"] = "first"
    on_error: Literal["stop", "continue"] = "stop"
    sharded: bool = False  # with train.parallel=fsdp each rank writes its own part, into a folder that all see


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """When the held-out pictures, all of them, are evaluated during training. The end is always evaluated.

    from_ (`from` in a recipe): the first epoch or step after which they are. patience: the run ends after so many
    evaluations in a row without a greater top1.
    """

    every: int = 1  # epochs or steps; 0: only at the end
    unit: Literal["epochs", "steps"] = "epochs"
    from_: int = 0
    patience: int | None = None
    batch: int = 256


@dataclass(frozen=True, kw_only=True)
class Journal:
    """How a run is told, beside its own journal.

    lines: of `train.log` and `eval.log`: our own, or byte for byte those of a published package. to: trackers that get
    every row, too: tensorboard, wandb, mlflow.
    """

    lines: Literal[
        "own", "vit_mindspore", "vit_tensorflow", "vit_tensorflow_performance", "cct_mindspore", "beit_mindspore"
    ] = "own"
    to: tuple[str, ...] = ()
