"""What contradicts itself between the keys of a recipe, or has no effect beside the others."""

from __future__ import annotations

from itertools import pairwise

from vitrail.data.augment.grammar import is_three_augment, parse
from vitrail.data.configs import Augment, Mix
from vitrail.errors import nearest
from vitrail.models.catalog import VARIANTS
from vitrail.models.configs import BEiTConfig, CCTConfig, ViTConfig
from vitrail.pictures.policy import Policy
from vitrail.recipe.schema import Recipe
from vitrail.training.configs import DEVICES, SWA, TARGETS, Constant, Cosine, DynamicScale, LoRA, MultiStep, Schedule
from vitrail.training.due import seconds
from vitrail.training.trackers.table import TRACKERS


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
    if recipe.checkpoint.sharded and recipe.train.parallel != "fsdp":
        found.append(("checkpoint.sharded", "needs train.parallel=fsdp: else every rank has the whole state"))
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
