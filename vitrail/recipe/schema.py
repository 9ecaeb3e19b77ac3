"""The whole of a recipe, summed up from the configs that each part owns, and the ranges its values lie in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from vitrail.data.augment.grammar import is_three_augment, parse
from vitrail.data.configs import Augment, Data, Mix
from vitrail.errors import nearest
from vitrail.models.catalog import VARIANTS
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig
from vitrail.pictures.policy import Policy
from vitrail.training.configs import (
    DEVICES,
    SWA,
    TARGETS,
    AdamW,
    Average,
    Checkpoint,
    Constant,
    Cosine,
    CrossEntropy,
    DynamicScale,
    Evaluation,
    Journal,
    LoRA,
    Loss,
    MultiStep,
    Optimizer,
    Precision,
    Schedule,
    Train,
)
from vitrail.training.due import seconds
from vitrail.training.watch_configs import Watch

TRACKERS = ("tensorboard", "wandb", "mlflow")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights to start from: a file or folder of any world, a published name, `hf:OWNER/NAME`, a run, a bundle or a
    checkpoint.

    dialect: a name, or a YAML file of own rules; None to detect it. head: `auto` makes a zero head where the classes
    differ, `zero` always, `first-k` keeps the first rows, `keep` changes nothing. sha256: of the tensors that the
    network started with, written by resolving and held against them when the recipe is run again.
    """

    path: str
    dialect: str | None = None
    head: Literal["auto", "zero", "first-k", "keep"] = "auto"
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run. config is the variant's with the recipe's settings; `auto` and None are settled by resolving."""

    variant: str
    config: ModelConfig
    classes_given: bool  # whether the recipe itself names model.classes
    policy: Policy
    weights: Weights | None = None
    adapter: LoRA | None = None
    data: Data = Data()
    augment: Augment = Augment()
    mix: Mix | None = None
    loss: Loss = CrossEntropy()
    optimizer: Optimizer = AdamW()
    schedule: Schedule
    precision: Precision = "auto"
    average: Average | None = None
    train: Train = Train()
    checkpoint: Checkpoint = Checkpoint()
    evaluation: Evaluation = Evaluation()
    journal: Journal = Journal()
    watch: Watch = Watch()
    name: str = "recipe"
    origins: Mapping[str, str] = field(default_factory=dict)  # dotted key -> recipe, command line, variant, ...


# The parts that are built by their annotations alone; model and policy depend on the variant.
PARTS: dict[str, object] = {
    "weights": Weights | None,
    "adapter": LoRA | None,
    "data": Data,
    "augment": Augment,
    "mix": Mix | None,
    "loss": Loss,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "precision": Precision,
    "average": Average | None,
    "train": Train,
    "checkpoint": Checkpoint,
    "evaluation": Evaluation,
    "journal": Journal,
    "watch": Watch,
}
KEYS = ("format", "name", "model", "policy", *PARTS)
FORMAT = "1.0"  # of recipes; another major version is refused

# Of each pair exactly one stands; an override of one replaces the other.
PAIRS = (
    ("schedule.epochs", "schedule.steps"),
    ("schedule.warmup_epochs", "schedule.warmup_steps"),
    ("data.batch", "data.batch_per_device"),
)


def _within(low: float, high: float) -> tuple[Callable[[float], bool], str]:
    return (lambda value: low <= value <= high), f"must lie in {low:g} to {high:g}"


def _least(low: float) -> tuple[Callable[[float], bool], str]:
    return (lambda value: math.isfinite(value) and value >= low), f"must be {low:g} or more"


ABOVE_0: tuple[Callable[[float], bool], str] = (
    (lambda value: math.isfinite(value) and value > 0),
    "must be above 0 and finite",
)

# dotted key -> (test of the number, what it must be); a tuple's numbers are tested one by one
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "adapter.rank": _within(1, 4096),
    "adapter.alpha": ABOVE_0,
    "data.holdout": ((lambda value: 0 < value < 1), "must lie between 0 and 1"),
    "data.batch": _within(1, 1_000_000),
    "data.batch_per_device": _within(1, 1_000_000),
    "data.repeats": _within(1, 1000),
    "data.workers": _within(0, 256),
    "data.bad_limit": _within(0, 1),
    "data.patience": _least(0),
    "augment.crop.scale": ((lambda value: 0 < value <= 1), "must lie above 0, up to 1"),
    "augment.crop.ratio": ABOVE_0,
    "augment.crop.padding": _within(0, 4096),
    "augment.flip": _within(0, 1),
    "augment.vertical_flip": _within(0, 1),
    "augment.jitter.brightness": _within(0, 10),
    "augment.jitter.contrast": _within(0, 10),
    "augment.jitter.saturation": _within(0, 10),
    "augment.jitter.hue": _within(0, 0.5),
    "augment.jitter.probability": _within(0, 1),
    "augment.erase.probability": _within(0, 1),
    "augment.erase.area": _within(0, 1),
    "augment.erase.aspect": _within(0.01, 100),
    "augment.erase.count": _within(1, 64),
    "mix.mixup": _within(0, 1000),
    "mix.cutmix": _within(0, 1000),
    "mix.cutmix_minmax": _within(0, 1),
    "mix.probability": _within(0, 1),
    "mix.switch": _within(0, 1),
    "mix.off_epoch": _least(0),
    "loss.smoothing": _within(0, 0.999),
    "loss.threshold": ((lambda value: 0 <= value < 1), "must lie in 0 to below 1"),
    "loss.teacher.alpha": ((lambda value: 0 < value <= 1), "must lie above 0, up to 1"),
    "loss.teacher.temperature": ABOVE_0,
    "optimizer.betas": ((lambda value: 0 <= value < 1), "must lie in 0 to below 1"),
    "optimizer.eps": ABOVE_0,
    "optimizer.weight_decay": _least(0),
    "optimizer.layer_decay": ((lambda value: 0 < value <= 1), "must lie above 0, up to 1"),
    "optimizer.momentum": ((lambda value: 0 <= value < 1), "must lie in 0 to below 1"),
    "optimizer.newton_schulz": _within(1, 99),
    "schedule.epochs": ABOVE_0,
    "schedule.steps": _least(1),
    "schedule.lr": ABOVE_0,
    "schedule.warmup_epochs": _least(0),
    "schedule.warmup_steps": _least(0),
    "schedule.warmup_lr": _least(0),
    "schedule.min_lr": _least(0),
    "schedule.cooldown_epochs": _least(0),
    "schedule.t_max": ABOVE_0,
    "schedule.cycles": _within(1, 1000),
    "schedule.cycle_mul": _within(0.01, 100),
    "schedule.cycle_decay": _within(0, 1),
    "schedule.k_decay": ABOVE_0,
    "schedule.power": ABOVE_0,
    "schedule.milestones": ABOVE_0,
    "schedule.gamma": _within(0, 1),
    "schedule.every": ABOVE_0,
    "average.decay": ((lambda value: 0 <= value < 1), "must lie in 0 to below 1"),
    "average.from_epoch": _least(0),
    "train.seed": _within(0, 2**63 - 1),
    "train.accumulate": _within(1, 1_000_000),
    "train.clip": ABOVE_0,
    "train.clip_value": ABOVE_0,
    "train.loss_scale.initial": _within(1, 2.0**60),
    "train.loss_scale.factor": ((lambda value: 1 < value <= 2.0**20), "must lie above 1, up to 2^20"),
    "train.loss_scale.window": _least(1),
    "train.loss_scale.value": _within(1, 2.0**60),
    "train.threads": _within(1, 4096),
    "train.patience": _least(0),
    "checkpoint.every": _least(0),
    "checkpoint.keep": _least(1),
    "evaluation.every": _least(0),
    "evaluation.from": _least(0),
    "evaluation.patience": _least(1),
    "evaluation.batch": _within(1, 1_000_000),
    "watch.captures": _within(0, 1000),
    "watch.stall": _least(0),
    "watch.dump.every": _least(1),
    "watch.profile.first": _least(1),
    "watch.profile.steps": _within(1, 10_000),
}


def cross_problems(recipe: Recipe) -> list[tuple[str, str]]:
    """What contradicts itself between keys: (dotted key, what is wrong)."""
    found = _schedule_problems(recipe.schedule)
    found += _idle_in_model(recipe)
    found += _training_problems(recipe)
    found += _telling_problems(recipe)
    if recipe.optimizer.weight_decay == 0.0 and recipe.optimizer.decayed != "family":
        found.append(("optimizer.decayed", "has no effect: optimizer.weight_decay is 0"))
    if recipe.optimizer.layer_decay is None and recipe.optimizer.layer_decay_grouping != "timm":
        found.append(("optimizer.layer_decay_grouping", "has no effect without `layer_decay`"))
    if getattr(recipe.optimizer, "nesterov", False) and getattr(recipe.optimizer, "momentum", 1.0) == 0.0:
        found.append(("optimizer.nesterov", "has no effect without momentum"))
    if recipe.config.channels != recipe.policy.channels:
        found.append(("policy.mean", f"{recipe.policy.channels} values for {recipe.config.channels} channels"))
    if recipe.config.image_size != recipe.policy.size:
        found.append(("policy.size", f"{recipe.policy.size} is not model.image_size {recipe.config.image_size}"))
    found += [] if recipe.adapter is None else _of_adapter(recipe, recipe.adapter)
    return found + _of_augment(recipe.augment, recipe.policy) + ([] if recipe.mix is None else _of_mix(recipe.mix))


def _idle_in_model(recipe: Recipe) -> list[tuple[str, str]]:
    """Fields of the network that the recipe changes and that no part of it, as it stands, would look at."""
    config, variant = recipe.config, VARIANTS[recipe.variant].config
    idle: dict[str, str] = {}
    if isinstance(config, CCTConfig):
        idle |= {} if config.conv_layers > 1 else {"conv_width": "there is one convolution, which is `dim` wide"}
        idle |= {} if config.max_pool else {"pool_padding": "there is no pool"}
    if isinstance(config, ViTConfig) and config.stem == "patches":
        idle |= dict.fromkeys(("stem_width", "stem_numerics"), "the stem is `patches`")
    if isinstance(config, (ViTConfig, BEiTConfig)) and not config.layer_scale:
        idle["layer_scale_init"] = "layer_scale is off"
    if recipe.weights is not None:
        idle |= dict.fromkeys(("layer_scale_init", "head_init"), "the run starts from weights")
    return [
        (f"model.{name}", f"has no effect: {why}")
        for name, why in idle.items()
        if getattr(config, name, None) != getattr(variant, name, None)
    ]


def _of_adapter(recipe: Recipe, adapter: LoRA) -> list[tuple[str, str]]:
    found = []
    if recipe.weights is None:
        found.append(("adapter", "has nothing to adapt: give `weights.path`"))
    if adapter.rank > recipe.config.dim:
        found.append(("adapter.rank", f"{adapter.rank} is more than the network's width, {recipe.config.dim}"))
    odd = [word for word in adapter.targets if word not in TARGETS]
    if odd or not adapter.targets or len(set(adapter.targets)) < len(adapter.targets):
        what = f"`{odd[0]}` is not one of" if odd else "must be one, two or all, each once, of"
        found.append(("adapter.targets", f"{what} {', '.join(TARGETS)}"))
    return found


def _of_augment(augment: Augment, policy: Policy) -> list[tuple[str, str]]:
    found = [
        *_ordered(augment.crop, "augment.crop", ("scale", "ratio")),
        *_ordered(augment.erase, "augment.erase", ("area", "aspect")),
    ]
    jitter = augment.jitter
    if jitter is not None and jitter.brightness == jitter.contrast == jitter.saturation == jitter.hue == 0.0:
        found.append(("augment.jitter", "moves nothing: give one of its parts a value, or leave it out"))
    if (augment.auto is not None or jitter is not None) and policy.channels not in (1, 3):
        found.append(("augment", f"`auto` and `jitter` are for 1 or 3 channels, the policy has {policy.channels}"))
    return found if augment.auto is None else found + _of_auto(augment, augment.auto)


def _of_auto(augment: Augment, text: str) -> list[tuple[str, str]]:
    try:
        parse(text)
    except ValueError as error:
        return [("augment.auto", f"`{text}`: {error}")]
    found = []
    if augment.jitter is not None and not is_three_augment(text):
        found.append(("augment.jitter", f"has no effect beside auto `{text}`: only 3-Augment leaves it on"))
    named = getattr(augment.crop, "interpolation", "random")
    if named not in ("nearest", "bilinear", "bicubic", "random"):
        found.append(
            (
                "augment.crop.interpolation",
                f"`{named}` cannot turn or shear: beside auto give bilinear, bicubic or random",
            )
        )
    return found


def _of_mix(mix: Mix) -> list[tuple[str, str]]:
    found = _ordered(mix, "mix", ("cutmix_minmax",))
    if mix.mixup == mix.cutmix == 0.0 and mix.cutmix_minmax is None:
        found.append(("mix", "neither mixup nor cutmix is on: give one of them an alpha, or leave `mix` out"))
    if mix.cutmix > 0.0 and mix.cutmix_minmax is not None:
        found.append(("mix.cutmix", "has no effect beside mix.cutmix_minmax, which draws the box without a Beta"))
    return found


def _ordered(part: object, key: str, pairs: tuple[str, ...]) -> list[tuple[str, str]]:
    """The pairs of a part whose first number is the greater."""
    values = {pair: getattr(part, pair, None) for pair in pairs}
    return [
        (f"{key}.{pair}", f"{low:g} comes before the smaller {high:g}")
        for pair, (low, high) in ((pair, value) for pair, value in values.items() if value is not None)
        if low > high
    ]


def _training_problems(recipe: Recipe) -> list[tuple[str, str]]:
    found = []
    if recipe.loss.smoothing_over == "others" and not 0.0 < recipe.loss.smoothing <= 0.5:
        found.append(("loss.smoothing_over", "`others` wants a smoothing above 0, up to 0.5"))
    average, epochs = recipe.average, recipe.schedule.epochs
    if isinstance(average, SWA) and epochs is not None and average.from_epoch >= epochs:
        found.append(("average.from_epoch", f"{average.from_epoch} of {epochs:g} epochs leaves none to average"))
    if recipe.data.batch_per_device is not None and recipe.origins.get("data.batch") not in (None, "default"):
        found.append(("data.batch_per_device", "stands beside `batch`: give one of them"))
    if recipe.train.accumulate > (recipe.data.batch_per_device or recipe.data.batch):
        key = "batch" if recipe.data.batch_per_device is None else "batch_per_device"
        batch = recipe.data.batch_per_device or recipe.data.batch
        found.append(("train.accumulate", f"{recipe.train.accumulate} parts of data.{key} {batch}: give 1 to {batch}"))
    if recipe.train.clip is not None and recipe.train.clip_value is not None:
        found.append(("train.clip_value", "stands beside `clip`: give one of them"))
    if recipe.train.loss_scale is not None and recipe.precision != "fp16":
        found.append(("train.loss_scale", f"has no effect with precision {recipe.precision}: it is fp16's"))
    if recipe.train.fp32 and recipe.precision not in ("bf16", "fp16"):
        found.append(("train.fp32", f"has no effect with precision {recipe.precision}: it is of bf16 and fp16"))
    return found + _device_problems(recipe.train.device, recipe.precision)


def _device_problems(device: str, precision: str) -> list[tuple[str, str]]:
    kind, colon, number = device.partition(":")
    numbered = kind in DEVICES and kind != "cpu" and number.isascii() and number.isdecimal()
    if not (numbered if colon else kind in ("auto", *DEVICES)):
        return [("train.device", f"`{device}` is none of auto, {', '.join(DEVICES)}, or one with a number: cuda:3")]
    if precision == "tf32" and kind not in ("auto", "cuda"):
        return [("precision", f"tf32 is CUDA's, train.device is {device}")]
    return []


def _telling_problems(recipe: Recipe) -> list[tuple[str, str]]:
    """Of the time a run may take, of its journal, and of what is watched."""
    found = []
    if recipe.train.time is not None:
        try:
            seconds(recipe.train.time)
        except ValueError as error:
            found.append(("train.time", f"`{recipe.train.time}` {error}"))
    if recipe.evaluation.patience is not None and recipe.evaluation.every == 0:
        found.append(("evaluation.patience", "has no effect: evaluation.every=0 evaluates at the end alone"))
    for name in recipe.journal.to:
        if name not in TRACKERS:
            found.append(("journal.to", f"`{name}` is no tracker; {nearest(name, TRACKERS)}"))
    if len(set(recipe.journal.to)) < len(recipe.journal.to):
        found.append(("journal.to", "names one twice"))
    if recipe.watch.overflows and (recipe.watch.captures == 0 or not isinstance(recipe.train.loss_scale, DynamicScale)):
        found.append(("watch.overflows", "has no effect without `captures` and a dynamic train.loss_scale"))
    if recipe.watch.dump is not None and recipe.watch.dump.what != "activations" and recipe.train.parallel == "fsdp":
        found.append(("watch.dump.what", "lies in parts on the ranks with train.parallel=fsdp: dump activations"))
    looks = recipe.watch.activations or (recipe.watch.dump is not None and recipe.watch.dump.what == "activations")
    if looks and recipe.train.compile:
        found.append(("train.compile", "hides the layers that `watch` is to look into"))
    return found


def _schedule_problems(schedule: Schedule) -> list[tuple[str, str]]:
    found = []
    if (schedule.epochs is None) == (schedule.steps is None):
        found.append(("schedule", "exactly one of `epochs` and `steps` must stand"))
    if schedule.warmup_steps is not None and schedule.warmup_epochs:
        found.append(("schedule.warmup_steps", "stands beside `warmup_epochs`: give one of them"))
    found += _of_no_warmup(schedule)
    held = 0.0 if isinstance(schedule, Constant) else schedule.cooldown_epochs
    if schedule.epochs is not None and schedule.warmup_epochs + held >= schedule.epochs:
        key = "warmup_epochs" if schedule.warmup_epochs else "cooldown_epochs"
        spent = f"{schedule.warmup_epochs + held:g} of {schedule.epochs:g} epochs"
        found.append((f"schedule.{key}", f"{spent} leaves none to train in"))
    if schedule.steps is not None and (schedule.warmup_steps or 0) >= schedule.steps:
        found.append(("schedule.warmup_steps", f"{schedule.warmup_steps} of {schedule.steps} leaves none to train in"))
    if not isinstance(schedule, Constant) and schedule.min_lr > schedule.lr:
        found.append(("schedule.min_lr", f"{schedule.min_lr:g} lies above schedule.lr {schedule.lr:g}"))
    if getattr(schedule, "min_added", False) and getattr(schedule, "min_lr", 0.0) == 0.0:
        found.append(("schedule.min_added", "has no effect: schedule.min_lr is 0"))
    if isinstance(schedule, Cosine):
        found += _cosine_problems(schedule)
    if isinstance(schedule, MultiStep) and (
        not schedule.milestones or any(a >= b for a, b in pairwise(schedule.milestones))
    ):
        found.append(("schedule.milestones", "must be one epoch or more, each later than the one before"))
    return found


def _of_no_warmup(schedule: Schedule) -> list[tuple[str, str]]:
    """What speaks of a warm-up where there is none."""
    if schedule.warmup_epochs or schedule.warmup_steps:
        return []
    idle: dict[str, object] = {"warmup_lr": 0.0, "warmup": "line"}
    idle |= {"per": "step"} if isinstance(schedule, Constant) else {"warmup_prefix": True}
    return [
        (f"schedule.{key}", f"has no effect without a warm-up: give schedule.{key}={str(value).lower()}")
        for key, value in idle.items()
        if getattr(schedule, key) != value
    ]


def _cosine_problems(schedule: Cosine) -> list[tuple[str, str]]:
    found = []
    if schedule.rise and (schedule.t_max is None or schedule.cycles > 1):
        found.append(("schedule.rise", "has no effect: give `t_max`, after which the rate rises, and one cycle"))
    for key in ("cycle_mul", "cycle_decay"):
        if schedule.cycles == 1 and getattr(schedule, key) != 1.0:
            found.append((f"schedule.{key}", "has no effect with one cycle"))
    return found
