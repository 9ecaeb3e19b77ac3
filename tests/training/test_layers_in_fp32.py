"""Layers kept in float32 take, compute and give it inside a step of shorter numbers; the rest does not."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from tests.training.tiny import NETWORK, batch, plan
from vitrail.errors import RecipeError
from vitrail.machine import set_float32_products
from vitrail.models import build, set_attention
from vitrail.models.catalog import variant
from vitrail.training.best import judged
from vitrail.training.configs import Train
from vitrail.training.layers_in_fp32 import keep_in_fp32
from vitrail.training.loop import train
from vitrail.training.state import TrainState


def seen(module: nn.Module) -> dict[str, torch.dtype]:
    """What each layer gives in a forward pass of bf16."""
    found: dict[str, torch.dtype] = {}
    hooks = [
        part.register_forward_hook(lambda _m, _i, out, name=name: found.update({name: out.dtype}))
        for name, part in module.named_modules()
        if name and not list(part.children())
    ]
    with torch.autocast("cpu", torch.bfloat16):
        module(torch.as_tensor(batch(0).images))
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("copied", [False, True])
def test_what_matches_is_float32_and_what_does_not_is_not(copied: bool) -> None:
    module = build(NETWORK, seed=0)
    assert seen(module)["tokenizer.conv_layers.0.0"] == torch.bfloat16
    keep_in_fp32(module, ["tokenizer*", "*linear1"])
    kept = seen(copy.deepcopy(module) if copied else module)
    for name, dtype in kept.items():
        inside = name.startswith("tokenizer") or name.endswith("linear1")
        assert dtype == torch.float32 if inside else True, name
    assert kept["classifier.blocks.0.linear2"] == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")


def test_a_pattern_takes_out_again_and_one_that_matches_nothing_is_refused() -> None:
    module = build(NETWORK, seed=0)
    keep_in_fp32(module, ["*linear?", "!*linear2"])
    kept = seen(module)
    assert kept["classifier.blocks.0.linear1"] == torch.float32
    assert kept["classifier.blocks.0.linear2"] == torch.bfloat16
    with pytest.raises(RecipeError, match="matches no layer") as caught:
        keep_in_fp32(module, ["*batchnorm*"])
    assert caught.value.code == "V104"


def test_an_error_inside_leaves_no_casting_behind() -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    keep_in_fp32(module, ["0"])
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            module(torch.zeros(1, 3))
        assert torch.is_autocast_enabled("cpu")
        assert (torch.zeros(1, 2) @ torch.zeros(2, 1)).dtype == torch.bfloat16


def test_in_a_run_it_changes_the_numbers(tmp_path: Path) -> None:
    def losses(precision: str, kept: tuple[str, ...]) -> list[float]:
        rows: list[float] = []
        asked = plan(tmp_path / f"{precision}{len(kept)}", precision=precision, train=Train(seed=5, fp32=kept))
        train(asked, resume=None, listener=lambda row: rows.extend([row["loss"]] if row["event"] == "step" else []))
        return rows

    assert losses("bf16", ()) != losses("bf16", ("*",)) == pytest.approx(losses("fp32", ()), rel=1e-5)


def test_tf32_is_refused_where_nothing_has_it() -> None:
    with pytest.raises(RecipeError, match="tf32") as caught:
        set_float32_products("tf32", "cpu")
    assert caught.value.code == "V104"
    set_float32_products("fp32", "cpu")
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("rule", "accuracies", "best"),
    [
        ("first", [0.5, 0.5, 0.4], [0]),
        ("last", [0.5, 0.5, 0.4, 0.5], [1, 3]),
        ("last", [0.5, 0.4], []),
        ("first", [0.1, 0.3, 0.2], [0, 1]),
        ("last", [0.1, 0.3, 0.2], [1]),
    ],
)
def test_which_evaluation_is_the_best(rule: str, accuracies: list[float], best: list[int]) -> None:
    module = nn.Linear(1, 1)
    state = TrainState(module, torch.optim.SGD(module.parameters()))
    found = []
    for state.step, top1 in enumerate(accuracies):
        state.metrics = {"top1": top1}
        if judged(state, rule):  # type: ignore[arg-type]
            found.append(state.step)
    assert found == best
    assert state.best == max(accuracies)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "cct_2_3x2_32", "beit_base_patch16_224", "vit_2_4_32"])
def test_every_layer_is_called_so_that_hooks_see_it(
    name: str, path: Literal["explicit", "fused"], training: bool
) -> None:
    config = variant(name).config
    config = replace(config, depth=2, image_size=(32, 32))
    module = build(config, seed=0).train(training)
    set_attention(module, path)
    layers = {name for name, part in module.named_modules() if isinstance(part, (nn.Linear, nn.Conv2d, nn.LayerNorm))}
    called: set[str] = set()
    for layer in layers:
        module.get_submodule(layer).register_forward_hook(lambda _m, _i, _o, layer=layer: called.add(layer))
    module(torch.zeros(4, 3, 32, 32))
    assert layers - called == set()
