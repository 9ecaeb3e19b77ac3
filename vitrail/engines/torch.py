"""torch as an engine for the weights of a bundle, and what a network computes, read while it runs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from vitrail.engines.facts import GELU_CONSTANTS, in_float32
from vitrail.engines.table import Runner
from vitrail.formats.stored import Tensors
from vitrail.machine import move
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


def open(described: Described, tensors: Tensors, *, device: str = "cpu") -> Runner:
    """The network ready to run on torch, on a device as `machine.device` names it."""
    opened: Any = classifier(described, tensors)
    move(opened.module, device)
    return cast(Runner, opened)


def facts(module: nn.Module, *, image: tuple[int, int, int]) -> dict[str, list[Any]]:
    """GELU forms and epsilons of LayerNorm and GroupNorm that the network really uses, as seen in one forward pass.

    image: (C, H, W). The keys are those of `engines.facts.wanted`.
    """
    return seen(copy.deepcopy(module).to("cpu", torch.float32).eval(), torch.zeros(1, *image))


def seen(program: Callable[[torch.Tensor], object], images: torch.Tensor) -> dict[str, list[Any]]:
    """The same of anything that computes through torch, on these images."""
    with torch.no_grad(), _Watch() as watch:
        program(images)
    return {"gelu": watch.forms, **{name: sorted(values) for name, values in watch.epsilons.items()}}


# operation: its fact, and which of its arguments is the epsilon
_EPSILONS = {"aten::native_layer_norm": ("layernorm_eps", 4), "aten::native_group_norm": ("groupnorm_eps", 7)}


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the arguments of GELU and of norms as they pass; a sigmoid after a product with 1.702 is a quick GELU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.epsilons: dict[str, set[float]] = {"layernorm_eps": set()}
        self._forms: set[str] = set()
        self._quick: set[str] = set()

    @property
    def forms(self) -> list[str]:
        """Forms of GELU met so far."""
        return sorted(self._forms | ({"quick"} if self._quick == {"factor", "sigmoid"} else set()))

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, given = func.name(), kwargs or {}
        if name == "aten::gelu":
            self._forms.add("tanh" if given.get("approximate", "none") == "tanh" else "erf")
        elif name == "aten::sigmoid":
            self._quick.add("sigmoid")
        elif name == "aten::mul.Tensor" and any(_is_quick_factor(value) for value in args):
            self._quick.add("factor")
        elif name in _EPSILONS:
            fact, place = _EPSILONS[name]
            self.epsilons.setdefault(fact, set()).add(in_float32(args[place]))
        return func(*args, **given)


def _is_quick_factor(value: Any) -> bool:
    return isinstance(value, float) and math.isclose(value, GELU_CONSTANTS["quick"], rel_tol=1e-6)
