"""Optimizers that torch does not have, each the formula of its paper over lists of tensors.

Letters: g gradients, w weights, m and v moments, d weight decay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

Groups = Iterable[dict[str, Any]]
Lists = list[list[Tensor]]


def gather(optimizer: torch.optim.Optimizer, group: dict[str, Any], *kept: str) -> Lists:
    """[weights, gradients, a list for each word of what is kept], of the parameters that have a gradient.

    What is not there yet begins at 0, a `step` as one number and all else shaped like its parameter.
    """
    weights = [p for p in group["params"] if p.grad is not None]
    for p in weights:
        state = optimizer.state[p]
        for word in kept:
            if word not in state:
                state[word] = torch.zeros(()) if word == "step" else torch.zeros_like(p)
    return [weights, [p.grad for p in weights], *([optimizer.state[p][word] for p in weights] for word in kept)]


class AdamWeightDecay(torch.optim.Optimizer):
    """w -= lr (m / (sqrt(v) + eps) + d w): Adam's moments as they are, without correction of their bias."""

    def __init__(self, params: Groups, *, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, {"lr": 0.0, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            w, g, m, v = gather(self, group, "exp_avg", "exp_avg_sq")
            if not w:
                continue
            _moments(m, v, g, group["betas"])
            roots = torch._foreach_sqrt(v)
            torch._foreach_add_(roots, group["eps"])
            update = torch._foreach_div(m, roots)
            torch._foreach_add_(update, w, alpha=group["weight_decay"])
            torch._foreach_add_(w, update, alpha=-group["lr"])


class Lion(torch.optim.Optimizer):
    """w -= lr (sign(b1 m + (1 - b1) g) + d w), then m = b2 m + (1 - b2) g."""

    def __init__(self, params: Groups, *, betas: tuple[float, float]) -> None:
        super().__init__(params, {"lr": 0.0, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            w, g, m = gather(self, group, "exp_avg")
            if not w:
                continue
            one, two = group["betas"]
            update = torch._foreach_lerp(m, g, 1.0 - one)
            torch._foreach_sign_(update)
            torch._foreach_add_(update, w, alpha=group["weight_decay"])
            torch._foreach_add_(w, update, alpha=-group["lr"])
            torch._foreach_lerp_(m, g, 1.0 - two)


class Lamb(torch.optim.Optimizer):
    """w -= lr |w| / |u| u with u = AdamW's m / (sqrt(v) + eps) + d w, both corrected; a norm of 0 leaves u as it is."""

    def __init__(self, params: Groups, *, betas: tuple[float, float], eps: float, always_adapt: bool) -> None:
        super().__init__(params, {"lr": 0.0, "betas": betas, "eps": eps, "always_adapt": always_adapt})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            w, g, m, v, counts = gather(self, group, "exp_avg", "exp_avg_sq", "step")
            if not w:
                continue
            torch._foreach_add_(counts, 1.0)
            _moments(m, v, g, group["betas"])
            steps, (one, two) = [int(count) for count in counts], group["betas"]
            roots = torch._foreach_sqrt(v)
            torch._foreach_div_(roots, [(1.0 - two**step) ** 0.5 for step in steps])
            torch._foreach_add_(roots, group["eps"])
            update = list(torch._foreach_div(m, roots))
            torch._foreach_div_(update, [1.0 - one**step for step in steps])
            torch._foreach_add_(update, w, alpha=group["weight_decay"])
            if group["weight_decay"] or group["always_adapt"]:
                update = [u * trust for u, trust in zip(update, _trust(w, update), strict=True)]
            torch._foreach_add_(w, update, alpha=-group["lr"])


def _moments(m: list[Tensor], v: list[Tensor], g: list[Tensor], betas: tuple[float, float]) -> None:
    one, two = betas
    torch._foreach_lerp_(m, g, 1.0 - one)
    torch._foreach_mul_(v, two)
    torch._foreach_addcmul_(v, g, g, 1.0 - two)


def _trust(w: Sequence[Tensor], update: Sequence[Tensor]) -> list[Tensor]:
    """|w| / |u| of each tensor, 1 where one of them is 0."""
    pairs = zip(torch._foreach_norm(list(w)), torch._foreach_norm(list(update)), strict=True)
    return [torch.where((a > 0) & (b > 0), a / b, 1.0) for a, b in pairs]


class MuonAdamW(torch.optim.Optimizer):
    """torch's Muon for the groups marked `hidden`, its AdamW for the others, as one optimizer."""

    def __init__(self, params: Groups, *, muon: dict[str, Any], adamw: dict[str, Any]) -> None:
        super().__init__(params, {"lr": 0.0})
        hidden = [group for group in self.param_groups if group["hidden"]]
        others = [group for group in self.param_groups if not group["hidden"]]
        self._inner: list[torch.optim.Optimizer] = []
        if hidden:
            self._inner.append(torch.optim.Muon(hidden, lr=0.0, **muon))
        if others:
            self._inner.append(torch.optim.AdamW(others, lr=0.0, **adamw))
        for inner in self._inner:  # the groups are the same objects already
            inner.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None
        for inner in self._inner:
            inner.step()
