"""Adapters as small files: a safetensors file of the matrices and the head, and what they belong to.

Its metadata key `vitrail_adapter` is one JSON object: format, the model (variant, config, policy, classes), rank,
alpha and targets, the hash of the weights that the adapters were trained on (their head apart, which is in this file),
and the hash of the weights that they give when they are merged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from vitrail.bundle.manifest import weights_hash
from vitrail.errors import WeightsError
from vitrail.formats import safetensors
from vitrail.formats.stored import Tensors
from vitrail.models import build
from vitrail.models.configs import ModelConfig, config_from_json, config_to_json
from vitrail.models.lora import OWN, attach, merged
from vitrail.pictures.policy import Policy
from vitrail.training.configs import TARGETS, LoRA
from vitrail.weights.fit import check
from vitrail.weights.heads import head_names, without
from vitrail.weights.saved import ADAPTER as KEY
from vitrail.weights.tensors import load_native, native_tensors

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """Adapters apart from the weights they change. base, merged: SHA-256 of tensors, `base` without its head."""

    lora: LoRA
    config: ModelConfig
    policy: Policy
    classes: tuple[str, ...]
    variant: str
    base: str
    merged: str
    tensors: Tensors


def cut_out(
    module: nn.Module, lora: LoRA, *, config: ModelConfig, policy: Policy, classes: tuple[str, ...], variant: str
) -> tuple[Adapter, nn.Module]:
    """The adapters of a network that has them, and the plain network with them merged."""
    tensors = native_tensors(module)
    mine = {name: t for name, t in tensors.items() if _is_own(name) or name in head_names(config)}
    base = without({name: t for name, t in tensors.items() if not _is_own(name)}, config)
    plain = merged(module)
    adapter = Adapter(
        lora=lora, config=config, policy=policy, classes=classes, variant=variant,
        base=weights_hash(base), merged=weights_hash(native_tensors(plain)), tensors=mine,
    )  # fmt: skip
    return adapter, plain


def dumps(adapter: Adapter) -> bytes:
    """The file; the same adapter gives the same bytes."""
    values = {
        "format": FORMAT,
        "variant": adapter.variant,
        "config": config_to_json(adapter.config),
        "policy": adapter.policy.to_json(),
        "classes": list(adapter.classes),
        "lora": asdict(adapter.lora),
        "base_sha256": adapter.base,
        "merged_sha256": adapter.merged,
    }
    return safetensors.dumps(adapter.tensors, {KEY: json.dumps(values, sort_keys=True, allow_nan=False)})


def read(path: Path) -> Adapter:
    """An adapter file. WeightsError V201 for another one or one that does not hold, V204 when tensors do not fit."""
    tensors, metadata = safetensors.read(path)
    if KEY not in metadata:
        raise WeightsError(
            "V201", f"`{path}` is no file of adapters", hint="name the `adapter.safetensors` of a run with adapters"
        )
    try:
        values = json.loads(metadata[KEY])
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        config = config_from_json(values["config"])
        classes = tuple(map(str, values["classes"]))
        if len(classes) != config.classes:
            raise ValueError(f"{len(classes)} class names for {config.classes} classes")
        adapter = Adapter(
            lora=lora_of(values["lora"]), config=config, policy=Policy.from_json(values["policy"]), classes=classes,
            variant=str(values["variant"]), base=str(values["base_sha256"]), merged=str(values["merged_sha256"]),
            tensors=tensors,
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(
            "V201", f"the metadata `{KEY}` of `{path}` does not hold: {error}", hint="take the file of the run again"
        ) from error
    shapes = {name: tuple(p.shape) for name, p in _adapted(adapter.config, adapter.lora, "meta").state_dict().items()}
    own = {name: shape for name, shape in shapes.items() if _is_own(name) or name in head_names(config)}
    check(tensors, own, "the network")
    return adapter


def lora_of(values: object) -> LoRA:
    """The settings that `asdict` gave; ValueError when they do not hold."""
    if not isinstance(values, Mapping) or set(values) != {"name", "rank", "alpha", "targets"}:
        raise ValueError(f"adapter settings are {values!r:.80}")
    rank, alpha, targets = values["rank"], values["alpha"], values["targets"]
    holds = type(rank) is int and 1 <= rank <= 4096 and type(alpha) is float and alpha > 0
    if not holds or not isinstance(targets, list | tuple) or not targets or not set(targets) <= set(TARGETS):
        raise ValueError(f"adapter settings are {values!r:.80}")
    return LoRA(rank=rank, alpha=alpha, targets=tuple(targets))


def merge(adapter: Adapter, base: Tensors, *, where: str) -> nn.Module:
    """The plain network of a base's native tensors with the adapters merged.

    WeightsError V204 unless the tensors, their head apart, are those that the adapters were trained on.
    """
    found = weights_hash(without(base, adapter.config))
    if found != adapter.base:
        raise WeightsError(
            "V204",
            f"the adapters were trained on other weights than those of `{where}`",
            evidence=[f"wanted {adapter.base}", f"found  {found}"],
            hint="give the weights that the run started with: `weights.path` in its recipe.yaml",
        )
    return network_of(adapter.config, adapter.lora, {**base, **adapter.tensors})


def network_of(config: ModelConfig, lora: LoRA, tensors: Tensors) -> nn.Module:
    """The plain network of the tensors of an adapted one. WeightsError V204 unless they fit."""
    module = _adapted(config, lora, "cpu")
    load_native(module, tensors)
    return merged(module)


def _adapted(config: ModelConfig, lora: LoRA, device: Literal["cpu", "meta"]) -> nn.Module:
    module = build(config, device=device)
    attach(module, rank=lora.rank, alpha=lora.alpha, targets=lora.targets)
    return module


def _is_own(name: str) -> bool:
    return name.rpartition(".")[2] in OWN
