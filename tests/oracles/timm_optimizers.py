"""timm's Lion and Lamb beside ours: ten steps on the same gradients, in float64."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

import tests.oracles.torchvision_stub  # noqa: F401  before timm
from vitrail.training import configs
from vitrail.training.optimizers import make

from timm.optim import Lamb, Lion  # isort: skip

BOUND = 1e-12
SHARED = {"betas": (0.9, 0.97)}
CASES: dict[str, tuple[configs.Optimizer, Any]] = {
    "lion": (configs.Lion(weight_decay=0.1, **SHARED), lambda p: Lion(p, lr=0.01, **SHARED)),  # type: ignore[arg-type]
    **{
        f"lamb, always adapted {always}": (
            configs.Lamb(weight_decay=0.1, eps=1e-6, always_adapt=always, **SHARED),  # type: ignore[arg-type]
            lambda p, always=always: Lamb(p, lr=0.01, eps=1e-6, max_grad_norm=None, always_adapt=always, **SHARED),
        )
        for always in (False, True)
    },
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)).double()


def farthest(config: configs.Optimizer, theirs: Any) -> float:
    """The greatest difference of a weight after any of ten steps."""
    one, other = network(), network()
    ours = make(config, one)
    parts = [[p for p in other.parameters() if (p.ndim > 1) is decayed] for decayed in (True, False)]
    peer = theirs([{"params": part, "weight_decay": wd} for part, wd in zip(parts, (0.1, 0.0), strict=True)])
    for group in ours.param_groups:
        group["lr"] = 0.01
    worst = 0.0
    for step in range(10):
        torch.manual_seed(step)
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        ours.step()
        peer.step()
        pairs = zip(one.parameters(), other.parameters(), strict=True)
        worst = max(worst, *(float((p - q).detach().abs().max()) for p, q in pairs))
    return worst


def main() -> int:
    found = {name: farthest(*case) for name, case in CASES.items()}
    for name, worst in found.items():
        print(f"timm {name}: {worst:.1e} {'ok' if worst <= BOUND else 'DIFFERS'}")
    return int(any(worst > BOUND for worst in found.values()))


if __name__ == "__main__":
    sys.exit(main())
