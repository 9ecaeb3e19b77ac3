"""Which parameters are trained, decayed and slowed: each trainable one is in exactly one group, frozen ones in none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from vitrail.errors import RecipeError
from vitrail.models.configs import FAMILIES
from vitrail.training.optimizer_configs import Muon, Optimizer
from vitrail.training.patterns import matching


@dataclass(frozen=True)
class Place:
    """Where a family keeps what, by the beginnings of names; all else is the head."""

    stem: tuple[str, ...]
    blocks: str
    norm: str  # after the last block, before pooling
    exempt: tuple[str, ...] = ()  # parameters of two axes or more that its published recipes do not decay


PLACES: dict[str, Place] = {
    # SHI-Labs' networks exempt nothing, and timm's rule of that time was the number of axes: positions are decayed.
    "cct": Place(
        stem=("tokenizer.", "classifier.class_emb", "classifier.positional_emb"),
        blocks="classifier.blocks.",
        norm="classifier.norm.",
    ),
    # timm VisionTransformer.group_matcher and no_weight_decay
    "vit": Place(
        stem=("cls_token", "dist_token", "reg_token", "pos_embed", "patch_embed.", "norm_pre."),
        blocks="blocks.",
        norm="norm.",
        exempt=("pos_embed", "cls_token", "dist_token", "reg_token"),
    ),
    # unilm beit/modeling_finetune.py no_weight_decay; tables of relative positions are decayed (timm spares them)
    "beit": Place(
        stem=("cls_token", "pos_embed", "patch_embed.", "rel_pos_bias."),
        blocks="blocks.",
        norm="norm.",
        exempt=("pos_embed", "cls_token"),
    ),
}
NOWHERE = Place((), "blocks.", "norm.")  # of a network of no family
NORMS = (nn.LayerNorm, nn.GroupNorm)


def place_of(module: nn.Module) -> Place:
    """The row of the network's family."""
    config = getattr(module, "config", None)
    return next((PLACES[name] for name, kind in FAMILIES.items() if isinstance(config, kind)), NOWHERE)


def decays(module: nn.Module, rule: str) -> Callable[[str, nn.Parameter], bool]:
    """The test of a rule for what is decayed: (name, parameter) -> bool.

    family: two axes or more, no bias, not exempted by the family, as timm has it for ViT and CCT, unilm for BEiT.
    weights: the matrices and kernels named `weight` alone; so timm's BEiT, unilm's with its
    switch disable_weight_decay_on_rel_pos_bias, and the model zoo's.
    all_but_norms: all but norms and layer scales, biases and tokens too; so the model zoo's vit_base.
    """
    exempt = place_of(module).exempt
    norms = {f"{name}." for name, part in module.named_modules() if isinstance(part, NORMS)}

    def family(name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim > 1 and _last(name) != "bias" and name not in exempt

    def weights(name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim > 1 and _last(name) == "weight"

    def all_but_norms(name: str, parameter: nn.Parameter) -> bool:
        return name.removesuffix(_last(name)) not in norms and not _last(name).startswith("gamma")

    return {"family": family, "weights": weights, "all_but_norms": all_but_norms}[rule]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def layers(module: nn.Module, grouping: str) -> dict[str, int]:
    """Each parameter's layer: 0 for the stem, i + 1 for block i, depth + 1 for the head.

    timm counts the norm after the last block to that block and shared relative positions to the stem, unilm both to
    the head. CCT, which neither has, is counted likewise: the tokenizer and the positions are the stem.
    """
    place = place_of(module)
    depth = getattr(getattr(module, "config", None), "depth", 0)

    def layer(name: str) -> int:
        if name.startswith(place.blocks):
            return int(name[len(place.blocks) :].partition(".")[0]) + 1
        if grouping == "timm" and name.startswith(place.norm):
            return int(depth)
        to_head = grouping == "unilm" and name.startswith("rel_pos_bias.")
        return 0 if name.startswith(place.stem) and not to_head else int(depth) + 1

    return {name: layer(name) for name, _ in module.named_parameters()}


def groups(module: nn.Module, config: Optimizer) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: each trainable parameter in exactly one; no group is empty.

    `lr_scale` multiplies the schedule's rate. `hidden` marks the matrices within the blocks, where Muon wants them.

    >>> from vitrail.training.optimizer_configs import AdamW
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups(nn.Linear(2, 3), AdamW())]
    [(1, 0.05), (1, 0.0)]
    """
    is_decayed, blocks = decays(module, config.decayed), place_of(module).blocks
    layer = layers(module, config.layer_decay_grouping)
    head = max(layer.values(), default=0)
    slower = 1.0 if config.layer_decay is None else config.layer_decay
    made: dict[tuple[int, bool, bool], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():  # a shared parameter comes once
        if not parameter.requires_grad:
            continue
        decayed = is_decayed(name, parameter)
        hidden = isinstance(config, Muon) and _is_hidden(name, parameter, blocks)
        key = (0 if slower == 1.0 else layer[name], not decayed, not hidden)
        decay, scale = config.weight_decay if decayed else 0.0, slower ** (head - layer[name])
        made.setdefault(key, {"params": [], "weight_decay": decay, "lr_scale": scale, "hidden": hidden})
        made[key]["params"].append(parameter)
    return [made[key] for key in sorted(made)]


def _is_hidden(name: str, parameter: nn.Parameter, blocks: str) -> bool:
    return parameter.ndim == 2 and name.startswith(blocks) and _last(name) == "weight"


def describe(module: nn.Module, config: Optimizer) -> str:
    """One line that says what is decayed, what is not, what is frozen, and what is trained otherwise than the rest.

    >>> from vitrail.training.optimizer_configs import AdamW
    >>> describe(nn.Linear(2, 3), AdamW())
    'decayed by 0.05: 1 tensor of 6 values; not decayed: 1 tensor of 3 values'
    """
    made = groups(module, config)
    parts = {
        f"decayed by {config.weight_decay:g}": [p for g in made if g["weight_decay"] for p in g["params"]],
        "not decayed": [p for g in made if not g["weight_decay"] for p in g["params"]],
        "frozen": [p for p in module.parameters() if not p.requires_grad],
        "of the trained by Muon": [p for g in made if g["hidden"] for p in g["params"]],
    }
    words = [f"{name}: {_many(part)}" for name, part in parts.items() if part]
    if config.layer_decay is not None:
        slowest, fastest = made[0]["lr_scale"], made[-1]["lr_scale"]
        count = len({group["lr_scale"] for group in made})
        words.append(f"learning rate times {slowest:.4g} (stem) to {fastest:g} (head) in {count} layers")
    return "; ".join(words)


def _many(parameters: Sequence[nn.Parameter]) -> str:
    tensors = "tensor" if len(parameters) == 1 else "tensors"
    return f"{len(parameters)} {tensors} of {sum(p.numel() for p in parameters)} values"


def freeze(module: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the parameters whose names match; a pattern that starts with `!` takes out what those before it took.

    RecipeError V104, with nothing frozen, when a pattern matches no parameter, or nothing is left to train.
    """
    names = [name for name, _ in module.named_parameters()]
    frozen = matching(patterns, names, key="train.freeze", kind="parameter")
    if not any(p.requires_grad and name not in frozen for name, p in module.named_parameters()):
        head = names[-1].rpartition(".")[0]
        raise RecipeError("V104", "train.freeze leaves nothing to train", hint=f"take the head out: `!{head}.*`")
    for name, parameter in module.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
