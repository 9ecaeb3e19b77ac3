"""Every optimizer against an outside truth: torch's own, MindSpore's numbers, or its paper's formula in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.training.tiny import ADAMW, NETWORK, OPTIMIZERS, SGD
from vitrail.models import build
from vitrail.training import optimizer_configs
from vitrail.training.optimizer_configs import Optimizer
from vitrail.training.optimizers import make

Array = NDArray[np.float64]
LRS = (0.1, 0.05, 0.02, 0.01, 0.1)


class Pair(nn.Module):
    """A matrix that is decayed and a vector that is not."""

    def __init__(self, w: object = None, gamma: object = None, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        random = np.random.default_rng(1)
        w = random.standard_normal((4, 3)) if w is None else w
        gamma = random.standard_normal(5) if gamma is None else gamma
        self.w = nn.Parameter(torch.tensor(w, dtype=dtype))
        self.gamma = nn.Parameter(torch.tensor(gamma, dtype=dtype))


def gradients(step: int) -> tuple[Array, Array]:
    random = np.random.default_rng(100 + step)
    return random.standard_normal((4, 3)), random.standard_normal(5)


def stepped(config: Optimizer, module: Pair, lrs: Sequence[float] = LRS, given: object = None) -> list[list[Array]]:
    """[w, gamma] after each step."""
    optimizer = make(config, module)
    after = []
    for step, lr in enumerate(lrs):
        found = gradients(step) if given is None else given[step]  # type: ignore[index]
        for p, g in zip(module.parameters(), found, strict=True):
            p.grad = torch.tensor(g, dtype=p.dtype).reshape(p.shape)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        optimizer.step()
        after.append([p.detach().numpy().copy() for p in module.parameters()])
    return after


# a paper's formula: (weights, gradient, what is kept, step from 1, lr, decay, whether the tensor is decayed) -> weights
Formula = Callable[[Array, Array, dict[str, Array], int, float, float, bool], Array]


def held(kept: dict[str, Array], word: str, like: Array) -> Array:
    return kept.setdefault(word, np.zeros_like(like))


def adam(w: Array, g: Array, kept: dict[str, Array], t: int, lr: float, decay: float, _: bool) -> Array:
    """Kingma and Ba, algorithm 1, with L2."""
    g = g + decay * w
    kept["m"] = 0.8 * held(kept, "m", w) + 0.2 * g
    kept["v"] = 0.95 * held(kept, "v", w) + 0.05 * g * g
    m, v = kept["m"] / (1 - 0.8**t), kept["v"] / (1 - 0.95**t)
    return w - lr * m / (np.sqrt(v) + 1e-6)


def adamw(w: Array, g: Array, kept: dict[str, Array], t: int, lr: float, decay: float, _: bool) -> Array:
    """Loshchilov and Hutter, algorithm 2."""
    kept["m"] = 0.8 * held(kept, "m", w) + 0.2 * g
    kept["v"] = 0.95 * held(kept, "v", w) + 0.05 * g * g
    m, v = kept["m"] / (1 - 0.8**t), kept["v"] / (1 - 0.95**t)
    return w - lr * (m / (np.sqrt(v) + 1e-6) + decay * w)


def uncorrected(w: Array, g: Array, kept: dict[str, Array], t: int, lr: float, decay: float, _: bool) -> Array:
    kept["m"] = 0.8 * held(kept, "m", w) + 0.2 * g
    kept["v"] = 0.95 * held(kept, "v", w) + 0.05 * g * g
    return w - lr * (kept["m"] / (np.sqrt(kept["v"]) + 1e-6) + decay * w)


def sgd(w: Array, g: Array, kept: dict[str, Array], t: int, lr: float, decay: float, _: bool) -> Array:
    """Sutskever's momentum as torch writes it, with Nesterov's look ahead."""
    g = g + decay * w
    kept["v"] = 0.7 * held(kept, "v", w) + g
    return w - lr * (g + 0.7 * kept["v"])


def lion(w: Array, g: Array, kept: dict[str, Array], t: int, lr: float, decay: float, _: bool) -> Array:
    """Chen et al., algorithm 2."""
    c = 0.8 * held(kept, "m", w) + 0.2 * g
    kept["m"] = 0.95 * kept["m"] + 0.05 * g
    return w - lr * (np.sign(c) + decay * w)


def lamb(w: Array, g: Array, kept: dict[str, Array], t: int, lr: float, decay: float, adapts: bool) -> Array:
    """You et al., algorithm 2."""
    kept["m"] = 0.8 * held(kept, "m", w) + 0.2 * g
    kept["v"] = 0.95 * held(kept, "v", w) + 0.05 * g * g
    m, v = kept["m"] / (1 - 0.8**t), kept["v"] / (1 - 0.95**t)
    update = m / (np.sqrt(v) + 1e-6) + decay * w
    ratio = np.linalg.norm(w) / np.linalg.norm(update) if adapts else 1.0
    return w - lr * ratio * update


BETAS = {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
CASES: dict[str, tuple[Optimizer, Formula, bool]] = {
    "adam": (optimizer_configs.Adam(**BETAS), adam, False),  # type: ignore[arg-type]
    "adamw": (optimizer_configs.AdamW(**BETAS), adamw, False),  # type: ignore[arg-type]
    "adam_weight_decay": (optimizer_configs.AdamWeightDecay(**BETAS), uncorrected, False),  # type: ignore[arg-type]
    "sgd": (optimizer_configs.SGD(momentum=0.7, nesterov=True, weight_decay=0.1), sgd, False),
    "lion": (optimizer_configs.Lion(betas=(0.8, 0.95), weight_decay=0.1), lion, False),
    "lamb, decayed alone": (optimizer_configs.Lamb(**BETAS), lamb, False),  # type: ignore[arg-type]
    "lamb, always": (optimizer_configs.Lamb(**BETAS, always_adapt=True), lamb, True),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", CASES)
def test_each_follows_its_paper(case: str) -> None:
    config, formula, always = CASES[case]
    module = Pair()
    wanted = [p.detach().numpy().copy() for p in module.parameters()]
    kept: list[dict[str, Array]] = [{}, {}]
    for step, ours in enumerate(stepped(config, module)):
        for at, g in enumerate(gradients(step)):
            decayed = at == 0
            decay = 0.1 if decayed else 0.0
            wanted[at] = formula(wanted[at], g, kept[at], step + 1, LRS[step], decay, decayed or always)
            np.testing.assert_allclose(ours[at], wanted[at], rtol=1e-12, err_msg=f"step {step}")


def test_lamb_leaves_a_tensor_of_zeros_its_own_length() -> None:
    config = optimizer_configs.Lamb(weight_decay=0.1, always_adapt=True)
    zeros = Pair(np.zeros((4, 3)), np.zeros(5))
    ((w, gamma),) = stepped(config, zeros, (0.1,))
    np.testing.assert_allclose(np.abs(w), 0.1, rtol=1e-4)
    np.testing.assert_allclose(np.abs(gamma), 0.1, rtol=1e-4)


# MindSpore 2.10's own numbers, in float32: w = (1, -2), gamma = 1; three steps; weight decay of w alone
GIVEN = [(((0.5, -0.25),), (0.3,)), (((0.1, 0.2),), (-0.1,)), (((-0.3, 0.4),), (0.2,))]
FLOAT32_BETAS = (float(np.float32(0.9)), float(np.float32(0.999)))  # it takes 1 - beta from these
MINDSPORE: dict[str, tuple[Optimizer, list[tuple[float, float, float]]]] = {
    "momentum": (
        optimizer_configs.SGD(momentum=0.9, weight_decay=0.1),
        [(0.94, -1.955, 0.97), (0.9033, -1.934975, 0.9615), (0.8942814, -1.9318961, 0.95444)],
    ),
    "adam_weight_decay": (
        optimizer_configs.AdamWeightDecay(weight_decay=0.1, eps=1e-8, betas=FLOAT32_BETAS),
        [(0.6737703, -1.6637706, 0.6837704), (0.4997706, -1.6431012, 0.5987316), (0.4779094, -1.6864295, 0.5390229)],
    ),
}


@pytest.mark.parametrize("case", MINDSPORE)
def test_golden_numbers_of_mindspore(case: str) -> None:
    config, wanted = MINDSPORE[case]
    found = stepped(config, Pair(((1.0, -2.0),), (1.0,), torch.float32), (0.1, 0.05, 0.02), GIVEN)
    for (w, gamma), row in zip(found, wanted, strict=True):
        assert (*w.reshape(-1), *gamma) == pytest.approx(row, rel=3e-7)


@pytest.mark.parametrize("step", [1, 2, 5, 10, 100, 1000, 10000])
def test_steps_without_correction_are_longer_at_first(step: int) -> None:
    """MindSpore's step over Adam's, at a constant gradient, as measured: 3.16 at first, nearly 1 after ten thousand."""
    told = {1: 3.1623, 2: 4.2496, 5: 5.7971, 10: 6.5279, 100: 3.2408, 1000: 1.2576, 10000: 1.00002}
    ratio = (1 - 0.9**step) / (1 - 0.999**step) ** 0.5
    assert ratio == pytest.approx(told[step], rel=2e-5)
    if step > 10:
        return
    one = np.ones((4, 3)), np.ones(5)
    moved = stepped(
        optimizer_configs.AdamWeightDecay(weight_decay=0.0, eps=1e-12), Pair(*one), [1e-3] * step, [one] * step
    )
    last = (moved[-2][1] if step > 1 else one[1]) - moved[-1][1]
    np.testing.assert_allclose(last, 1e-3 * ratio, rtol=1e-6)


# ---- Muon


def orthogonalised(g: Array, steps: int) -> Array:
    """Jordan's quintic iteration, in float64."""
    x = g / max(np.linalg.norm(g), 1e-7)
    x = x.T if g.shape[0] > g.shape[1] else x
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def test_muon_orthogonalises_the_matrices_of_the_blocks_and_leaves_the_rest_to_adamw() -> None:
    module = build(NETWORK, seed=1)
    config = optimizer_configs.Muon(weight_decay=0.1, momentum=0.9, newton_schulz=4)
    optimizer = make(config, module)
    other = build(NETWORK, seed=1)
    plain = make(optimizer_configs.AdamW(weight_decay=0.1), other)
    hidden = {
        f"classifier.blocks.{block}.{part}.weight"
        for block in range(NETWORK.depth)
        for part in ("self_attn.qkv", "self_attn.proj", "linear1", "linear2")
    }
    momentum: dict[str, Array] = {}
    for step, lr in enumerate((0.02, 0.01)):
        before = {name: p.detach().double().numpy().copy() for name, p in module.named_parameters()}
        torch.manual_seed(step)
        for p, q in zip(module.parameters(), other.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        for group in (*optimizer.param_groups, *plain.param_groups):
            group["lr"] = lr
        optimizer.step()
        plain.step()
        for name, p in module.named_parameters():
            if name not in hidden:
                assert torch.equal(p, other.get_parameter(name)), name
                continue
            assert p.grad is not None
            g, w = p.grad.double().numpy(), before[name]
            momentum[name] = 0.9 * momentum.get(name, np.zeros_like(g)) + 0.1 * g
            update = orthogonalised(0.9 * momentum[name] + 0.1 * g, 4)
            wanted = w - lr * 0.1 * w - lr * 0.2 * max(w.shape) ** 0.5 * update
            moved = float(np.abs(wanted - w).max())
            np.testing.assert_allclose(p.detach().numpy(), wanted, atol=0.05 * moved)  # torch iterates in bf16


def test_muon_of_a_network_without_blocks_is_adamw() -> None:
    ours = stepped(optimizer_configs.Muon(weight_decay=0.1), Pair())
    theirs = stepped(optimizer_configs.AdamW(weight_decay=0.1), Pair())
    for a, b in zip(ours[-1], theirs[-1], strict=True):
        np.testing.assert_array_equal(a, b)


# ---- what reaches torch


@pytest.mark.parametrize("config", [ADAMW, SGD, optimizer_configs.Adam(weight_decay=0.1)])
def test_settings_reach_the_optimizer(config: Optimizer) -> None:
    optimizer = make(config, build(NETWORK))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [config.weight_decay, 0.0]
    assert all(group["fused"] is True for group in optimizer.param_groups)
    for name in ("betas", "eps", "momentum", "nesterov"):
        if hasattr(config, name):
            assert all(group[name] == getattr(config, name) for group in optimizer.param_groups)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_without_a_gradient_is_left_alone(name: str) -> None:
    module = build(NETWORK, seed=1)
    optimizer = make(replace(OPTIMIZERS[name], layer_decay=None), module)
    before = [p.detach().clone() for p in module.parameters()]
    only = module.get_parameter("classifier.fc.weight")
    only.grad = torch.ones_like(only)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    optimizer.step()
    same: list[Tensor] = [a for a, p in zip(before, module.parameters(), strict=True) if torch.equal(a, p)]
    assert len(same) == len(before) - 1
    assert [id(p) for p, kept in optimizer.state.items() if kept] == [id(only)]
