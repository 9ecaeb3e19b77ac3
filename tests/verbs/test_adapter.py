"""Adapters through a whole run: a small file, a merged bundle, a resume to the bit, and merging them later."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.verbs.small import hashes
from tests.verbs.test_start import images, recipe, saved, source
from vitrail import opening, weights
from vitrail.cli.main import run as cli
from vitrail.errors import RecipeError, Stopped, WeightsError
from vitrail.formats import safetensors
from vitrail.recipe import Recipe
from vitrail.training import adapter_file
from vitrail.verbs import sharing
from vitrail.verbs.convert import Wanted, convert
from vitrail.verbs.show import show
from vitrail.verbs.train import train

FAMILIES = ["cct", "vit", "beit"]
ADAPTER = "adapter={rank: 2, alpha: 4.0, targets: [qkv, proj, mlp]}"


def adapted(family: str, base: Path, *overrides: str) -> Recipe:
    return recipe(family, base, ADAPTER, "schedule.lr=0.01", *overrides)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_leaves_a_small_file_and_the_same_network_merged(family: str, tmp_path: Path) -> None:
    base = saved(source(family), tmp_path / "base.safetensors")
    told: list[str] = []
    done = train(adapted(family, base), out=tmp_path / "run", listener=lambda row: told.append(str(row.get("text"))))
    (line,) = [line for line in told if line.startswith("adapters: ")]
    assert "0 decisions changed" in line
    proof = json.loads((done.folder / "adapter-proof.json").read_text())
    assert 0.0 < proof["max_dlogit"] <= proof["gate"] < 1e-4
    tensors, _ = safetensors.read(done.folder / "adapter.safetensors")
    assert {name.rpartition(".")[2] for name in tensors} == {"lora_a", "lora_b", "weight", "bias"}
    bundle = opening.classifier(done.bundle)
    before, after = (weights.native_tensors(one.module) for one in (opening.classifier(base), bundle))
    changed = {name for name in after if after[name].data != before[name].data}
    layers = {name.rpartition(".")[0] for name in tensors}
    assert {name.rpartition(".")[0] for name in changed} == layers
    newest = max((done.folder / "checkpoints").glob("step-*"))
    assert weights.native_tensors(opening.classifier(newest).module) == after


def test_a_run_with_adapters_that_is_stopped_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    base = saved(source("vit"), tmp_path / "base.safetensors")
    wanted = adapted("vit", base, "schedule.steps=6")
    train(wanted, out=tmp_path / "whole")

    def stop(event: Mapping[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(wanted, out=tmp_path / "stopped", listener=stop)
    train(wanted, out=tmp_path / "stopped", resume=True)
    assert hashes(tmp_path / "stopped") == hashes(tmp_path / "whole")
    files = [(tmp_path / name / "adapter.safetensors").read_bytes() for name in ("stopped", "whole")]
    assert files[0] == files[1]


def test_a_signal_while_the_merged_network_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are done by then: the run ends as stopped, and a resume finishes it."""
    wanted = adapted("vit", saved(source("vit"), tmp_path / "base.safetensors"), "schedule.steps=2")
    train(wanted, out=tmp_path / "whole")
    real, calls = sharing.evaluated, []

    def signalled(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*given)

    monkeypatch.setattr(sharing, "evaluated", signalled)
    with pytest.raises(Stopped, match="SIGTERM before the bundle") as caught:
        train(wanted, out=tmp_path / "run")
    assert caught.value.exit_code == 75 and not (tmp_path / "run" / "bundle").exists()
    train(wanted, out=tmp_path / "run", resume=True)
    assert hashes(tmp_path / "run") == hashes(tmp_path / "whole")


def test_a_checkpoint_says_that_it_has_adapters(tmp_path: Path) -> None:
    base = saved(source("vit"), tmp_path / "base.safetensors")
    done = train(adapted("vit", base, "schedule.steps=2"), out=tmp_path / "run")
    shown = show(str(max((done.folder / "checkpoints").glob("step-*"))))
    assert shown.values["checkpoint"]["adapter"] == "lora of rank 2, merged when opened"


@pytest.mark.parametrize(("family", "dialect", "suffix"), [("vit", "google", "npz"), ("beit", "timm", "pth")])
def test_merging_later_gives_the_bundle_of_the_run(family: str, dialect: str, suffix: str, tmp_path: Path) -> None:
    """Of a base of another head, another size and another world's names."""
    made = source(family, classes=7, image_size=(24, 24))
    base = saved(made, tmp_path / f"base.{suffix}", dialect)
    done = train(adapted(family, base, "model.image_size=16"), out=tmp_path / "run")
    file, merged = done.folder / "adapter.safetensors", tmp_path / "merged.safetensors"
    result = convert(file, merged, wanted=Wanted(base=base))
    assert "bit for bit what the run made" in result.read[0]
    again, bundle = opening.classifier(merged), opening.classifier(done.bundle)
    assert weights.native_tensors(again.module) == weights.native_tensors(bundle.module)
    assert (again.classes, again.policy, again.config) == (bundle.classes, bundle.policy, bundle.config)
    assert np.array_equal(again.logits(images(again)), bundle.logits(images(again)))


def test_another_base_is_refused_by_its_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = source("vit")
    base = saved(made, tmp_path / "base.safetensors")
    done = train(adapted("vit", base), out=tmp_path / "run")
    made.module.get_parameter("blocks.1.norm2.bias").data[3] += 1e-6
    other = saved(made, tmp_path / "other.safetensors")
    file = str(done.folder / "adapter.safetensors")
    assert cli(["convert", file, str(tmp_path / "m.safetensors"), "--base", str(other)]) == 2
    told = capsys.readouterr().err
    assert "V204" in told and "trained on other weights" in told
    assert not (tmp_path / "m.safetensors").exists()
    assert cli(["convert", file, str(tmp_path / "m.safetensors"), "--base", str(base)]) == 0
    capsys.readouterr()
    assert cli(["convert", file, str(tmp_path / "n.safetensors")]) == 2
    assert "--base" in capsys.readouterr().err
    with pytest.raises(WeightsError, match="no file of adapters"):
        adapter_file.read(base)


def test_a_damaged_description_is_refused(tmp_path: Path) -> None:
    base = saved(source("vit"), tmp_path / "base.safetensors")
    done = train(adapted("vit", base), out=tmp_path / "run")
    tensors, metadata = safetensors.read(done.folder / "adapter.safetensors")
    values = json.loads(metadata[adapter_file.KEY])
    for key, value in (
        ("format", 2), ("lora", {"rank": 2}), ("classes", ["a"]), ("config", {"family": "vit"}),
        ("lora", {**values["lora"], "rank": -1}), ("lora", {**values["lora"], "targets": ["head"]}),
    ):  # fmt: skip
        safetensors.write(tmp_path / "x.safetensors", tensors, {adapter_file.KEY: json.dumps({**values, key: value})})
        with pytest.raises(WeightsError) as caught:
            adapter_file.read(tmp_path / "x.safetensors")
        assert caught.value.code == "V201"
    less = dict(list(tensors.items())[1:])
    safetensors.write(tmp_path / "x.safetensors", less, metadata)
    with pytest.raises(WeightsError, match="do not fit"):
        adapter_file.read(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("adapter.targets=[head]", "`head` is not one of qkv, proj, mlp"),
        ("adapter.targets=[]", "must be one, two or all, each once, of"),
        ("adapter.targets=[qkv, qkv]", "must be one, two or all, each once, of"),
        ("adapter.rank=17", "17 is more than the network's width, 16"),
        ("adapter.rank=0", "must lie in 1 to 4096"),
        ("adapter.alpha=0.0", "must be above 0"),
        ("weights=null", "has nothing to adapt"),
    ],
)
def test_a_recipe_of_adapters_that_does_not_hold_is_refused(override: str, what: str) -> None:
    with pytest.raises(RecipeError) as caught:
        adapted("vit", Path("w.npz"), override)
    assert what in str(caught.value)
