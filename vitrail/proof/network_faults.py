"""Known mistakes inside the network: the form of GELU, an epsilon, one tensor scaled. Found by what they answer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from vitrail.evaluation.answers import Logits
from vitrail.models.configs import Gelu, StemNumerics
from vitrail.proof.faults import Fault

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vitrail.models.classifier import Classifier

EPSILONS = (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 0.0)
GELU_WORDS = {"erf": "exact (erf)", "tanh": "of the tanh form", "quick": "x sigmoid(1.702 x)"}
PROJECTIONS = 12  # random directions in which a tensor's share of the gaps is looked for
FEW = 4  # pictures of them
TRIED = 6  # tensors that are scaled in earnest
STEPS = 3  # Newton steps to a tensor's scale
MOVE = 1e-5  # of a scale, for a derivative by a difference in float64
SAME = 1e-6  # a scale nearer to 1 than this is none


class Network:
    """A copy of a source's network, on the processor, to be changed for a while and asked in float32 or float64."""

    def __init__(self, source: Classifier) -> None:
        import torch

        self.module: nn.Module = copy.deepcopy(source.module).to("cpu", torch.float32).eval().requires_grad_(False)

    def ask(self, images: NDArray[Any], fault: Fault | None = None, *, exact: bool = True) -> Logits:
        """Logits (B, K) of prepared pictures, in float64, or in float32 where `exact` is not wanted."""
        import torch

        kind = torch.float64 if exact else torch.float32
        self.module.to(kind)
        with torch.no_grad(), nullcontext() if fault is None or fault.change is None else fault.change(self.module):
            return np.asarray(self.module(torch.from_numpy(images).to(kind)).numpy(), np.float64)

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors of numbers, by their names."""
        state: dict[str, Tensor] = self.module.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


def of_numerics(module: nn.Module, epsilons: Iterable[float] = ()) -> list[Fault]:
    """Every other form of GELU, epsilon and way of a ResNet stem. epsilons: others than the usual ones."""
    from torch import nn

    found = []
    forms = _values(module, "gelu")
    for form in get_args(Gelu):
        if forms and forms != {form}:
            change = partial(_set, name="gelu", value=form, kinds=nn.Module)
            found.append(Fault("GELU", f"GELU were {GELU_WORDS[form]}", change=change))
    for kind, title in ((nn.LayerNorm, "LayerNorm"), (nn.GroupNorm, "GroupNorm")):
        ours = {part.eps for part in module.modules() if isinstance(part, kind)}
        for eps in sorted({*EPSILONS, *epsilons}):
            if ours and ours != {eps}:
                change = partial(_set, name="eps", value=eps, kinds=kind)
                found.append(Fault("epsilon", f"{title}'s epsilon were {eps:g}", change=change))
    for numerics in get_args(StemNumerics):
        if _values(module, "numerics") - {numerics}:
            change = partial(_set, name="numerics", value=numerics, kinds=nn.Module)
            found.append(Fault("stem", f"the stem divided by spreads as {numerics} does", change=change))
    return found


def _values(module: nn.Module, name: str) -> set[str]:
    return {value for part in module.modules() if isinstance(value := getattr(part, name, None), str)}


@contextmanager
def _set(module: nn.Module, *, name: str, value: object, kinds: type[nn.Module]) -> Iterator[None]:
    """Another value of an attribute for a while, in every part that has it."""
    parts = [
        part
        for part in module.modules()
        if isinstance(part, kinds) and isinstance(getattr(part, name, None), type(value))
    ]
    before = [getattr(part, name) for part in parts]
    try:
        for part in parts:
            setattr(part, name, value)
        yield
    finally:
        for part, old in zip(parts, before, strict=True):
            setattr(part, name, old)


@contextmanager
def _scaled(module: nn.Module, *, name: str, scale: float) -> Iterator[None]:
    tensor = module.state_dict(keep_vars=True)[name]
    before = tensor.detach().clone()
    try:
        tensor.mul_(scale)
        yield
    finally:
        tensor.copy_(before)


def of_tensors(network: Network, images: NDArray[np.float32], gaps: Logits) -> list[Fault]:
    """The tensors that explain the gaps (B, K) of a few pictures best when one of them is scaled, with its scale."""
    found = []
    for name, scale in _suspects(network, images, gaps)[:TRIED]:
        scale = _refined(network, name, scale, images, gaps)
        if np.isfinite(scale) and abs(scale - 1) > SAME:
            words = f"`{name}` were scaled by {scale:.4g}"
            found.append(Fault("tensor", words, change=partial(_scaled, name=name, scale=scale)))
    return found


def _suspects(network: Network, images: NDArray[np.float32], gaps: Logits) -> list[tuple[str, float]]:
    """(name, scale to first order), those first that leave least of the gaps.

    The gaps' parts in a few random directions are held against the derivatives of the logits by each tensor's scale,
    which one backward pass a direction gives for all tensors together.
    """
    import torch

    module, tensors = network.module.float(), network.tensors()
    directions = np.random.default_rng(0).standard_normal((PROJECTIONS, *gaps.shape))
    parts = (directions * gaps).sum(axis=(1, 2))
    slopes = np.zeros((len(tensors), PROJECTIONS))
    try:
        for tensor in tensors.values():
            tensor.requires_grad_(True)
        logits = module(torch.from_numpy(images).float())
        for place, direction in enumerate(directions):
            wanted = (logits * torch.from_numpy(direction).float()).sum()
            grads = torch.autograd.grad(wanted, list(tensors.values()), retain_graph=True, allow_unused=True)
            with torch.no_grad():
                slopes[:, place] = [
                    0.0 if grad is None else float((grad.double() * tensor).sum())
                    for grad, tensor in zip(grads, tensors.values(), strict=True)
                ]
    finally:
        network.module.requires_grad_(False)
        for tensor in network.tensors().values():
            tensor.requires_grad_(False)
    squares = (slopes**2).sum(axis=1)
    moves = (slopes @ parts) / np.maximum(squares, np.finfo(np.float64).tiny)
    left = np.linalg.norm(parts - moves[:, None] * slopes, axis=1)
    names = list(tensors)
    return [(names[place], 1 + float(moves[place])) for place in np.argsort(left, kind="stable")]


def _refined(network: Network, name: str, scale: float, images: NDArray[np.float32], gaps: Logits) -> float:
    """The scale by which the answers come nearest, by Newton's steps with derivatives of differences."""
    plain = network.ask(images)

    def moved(by: float) -> Logits:
        return network.ask(images, Fault("tensor", "", change=partial(_scaled, name=name, scale=by))) - plain

    for _ in range(STEPS):
        if not np.isfinite(scale):
            break
        here = moved(scale)
        slope = (moved(scale + MOVE) - here) / MOVE
        square = float((slope**2).sum())
        if square == 0:
            break
        scale += float((slope * (gaps - here)).sum()) / square
    return scale
