"""timm's Lion, Lamb, layer decay and binary cross-entropy beside ours, on the same gradients, names and logits."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import torch
from torch import nn

import tests.oracles.torchvision_stub  # noqa: F401  before timm
from vitrail.models import build
from vitrail.models.catalog import variant
from vitrail.training import configs, optimizer_configs
from vitrail.training.groups import groups
from vitrail.training.losses import loss_of
from vitrail.training.optimizers import make

from timm import create_model  # isort: skip
from timm.loss import BinaryCrossEntropy  # isort: skip
from timm.optim import Lamb, Lion, param_groups_layer_decay  # isort: skip

BOUND, IN_FLOAT32 = 1e-12, 2e-6
SHARED = {"betas": (0.9, 0.97)}
CASES: dict[str, tuple[optimizer_configs.Optimizer, Any]] = {
    "lion": (optimizer_configs.Lion(weight_decay=0.1, **SHARED), lambda p: Lion(p, lr=0.01, **SHARED)),  # type: ignore[arg-type]
    **{
        f"lamb, always adapted {always}": (
            optimizer_configs.Lamb(weight_decay=0.1, eps=1e-6, always_adapt=always, **SHARED),  # type: ignore[arg-type]
            lambda p, always=always: Lamb(p, lr=0.01, eps=1e-6, max_grad_norm=None, always_adapt=always, **SHARED),
        )
        for always in (False, True)
    },
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)).double()


def farthest(config: optimizer_configs.Optimizer, theirs: Any) -> float:
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


def losses() -> float:
    """The greatest difference from timm's BinaryCrossEntropy, on labels and on targets that its Mixup has smoothed."""
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 5).double(), torch.tensor([0, 3, 1, 4, 2, 2])
    hot, lam, worst = torch.nn.functional.one_hot(labels, 5).double(), 0.7, 0.0
    mixed = lam * hot + (1 - lam) * hot.flip(0)
    for threshold in (None, 0.2):
        for over in ("mean", "sum"):
            theirs = BinaryCrossEntropy(smoothing=0.1, target_threshold=threshold, sum_classes=over == "sum")
            config = configs.BinaryCrossEntropy(smoothing=0.1, threshold=threshold, over_classes=over)  # type: ignore[arg-type]
            smoothed = 0.9 * mixed + 0.1 / 5
            pairs = ((loss_of(config, logits, labels), theirs(logits, labels)),)
            pairs += ((loss_of(config, logits, mixed), theirs(logits, smoothed)),)
            worst = max(worst, *(abs(float(a) - float(b)) for a, b in pairs))
    return worst


def farthest_layer() -> float:
    """The greatest difference of a parameter's rate from timm's own layer decay, over networks that have every kind."""
    worst = 0.0
    for name, ours, theirs in (
        ("vit_tiny_patch16_224", {"register_tokens": 4, "pre_norm": True}, {"reg_tokens": 4, "pre_norm": True}),
        ("vit_tiny_patch16_224", {"pooling": "mean", "fc_norm": True}, {"global_pool": "avg"}),
        (
            "beit_base_patch16_224",
            {"shared_bias": True, "block_bias": False, "absolute_positions": True},
            {"use_shared_rel_pos_bias": True, "use_rel_pos_bias": False, "use_abs_pos_emb": True},
        ),
    ):
        module = build(replace(variant(name).config, **ours), device="meta")
        peer = create_model(name, **theirs)
        told = {id(p): key for key, p in peer.named_parameters()}
        parts = param_groups_layer_decay(peer, 0.05, peer.no_weight_decay(), layer_decay=0.75)
        wanted = {told[id(p)]: (g["lr_scale"], g["weight_decay"]) for g in parts for p in g["params"]}
        config = optimizer_configs.AdamW(layer_decay=0.75, decayed="weights")
        names = {id(p): key for key, p in module.named_parameters()}
        for group in groups(module, config):
            for p in group["params"]:
                scale, decay = wanted.pop(names[id(p)])
                worst = max(worst, abs(scale - group["lr_scale"]), abs(decay - group["weight_decay"]))
        assert not wanted, sorted(wanted)
    return worst


def main() -> int:
    found = {name: (farthest(*case), BOUND) for name, case in CASES.items()}
    found["layer decay"] = (farthest_layer(), BOUND)
    found["binary cross-entropy"] = (losses(), IN_FLOAT32)
    for name, (worst, bound) in found.items():
        print(f"timm {name}: {worst:.1e} {'ok' if worst <= bound else 'DIFFERS'}")
    return int(any(worst > bound for worst, bound in found.values()))


if __name__ == "__main__":
    sys.exit(main())
