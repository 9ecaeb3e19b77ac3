"""torch as an engine for the weights of a bundle, and what a network computes, read while it runs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from vitrail.engines.table import Runner
from vitrail.formats.stored import Tensors
from vitrail.models.classifier import Classifier
from vitrail.models.configs import ModelConfig
from vitrail.pictures.policy import Policy
from vitrail.weights import network


@dataclass(frozen=True)
class Described:
    """What a classifier is made of besides its tensors."""

    config: ModelConfig
    policy: Policy
    classes: tuple[str, ...]
    provenance: dict[str, object]


def classifier(described: Described, tensors: Tensors) -> Classifier:
    """The network with these native tensors, every one of them used; WeightsError V204 where they do not fit."""
    module = network(described.config, tensors).eval()
    return Classifier(module, described.config, described.policy, described.classes, described.provenance)


def open(described: Described, tensors: Tensors) -> Runner:
    """The network ready to run on torch, on the CPU."""
    return classifier(described, tensors)


def facts(module: nn.Module, *, image: tuple[int, int, int]) -> dict[str, list[Any]]:
    """GELU forms and LayerNorm epsilons that the network really uses, as seen in one forward pass.

    image: (C, H, W). The keys are those of `engines.facts.facts`.
    """
    frozen = copy.deepcopy(module).to("cpu", torch.float32).eval()
    with torch.no_grad(), _Watch() as watch:
        frozen(torch.zeros(1, *image))
    return {"gelu": sorted(watch.forms), "layernorm_eps": sorted(watch.epsilons)}


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the arguments of GELU and LayerNorm as they pass."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.forms: set[str] = set()
        self.epsilons: set[float] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, given = func.name(), kwargs or {}
        if name == "aten::gelu":
            self.forms.add("tanh" if given.get("approximate", "none") == "tanh" else "erf")
        elif name == "aten::native_layer_norm":
            self.epsilons.add(float(args[4]))
        return func(*args, **given)
