"""A bare TorchScript file as a MODEL: it runs for those who trust it, and its weights are read by all."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import vitrail
from vitrail.bundle.formats import Form
from vitrail.cli import run
from vitrail.engines.program import Program
from vitrail.errors import BundleError, UsageError, WeightsError
from vitrail.formats import is_program, read_tensors
from vitrail.models.classifier import Classifier
from vitrail.pictures.policy import HALF
from vitrail.verbs.compare import compare
from vitrail.verbs.export import export
from vitrail.verbs.show import show

VARIANT = "vit_2_4_32"
BATCH = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)


@pytest.fixture
def source() -> Classifier:
    return vitrail.create(VARIANT, classes=["cat", "dog", "owl"], seed=1)


def traced(module: nn.Module, path: Path, *, frozen: bool = False, size: int = 32) -> Path:
    """As the model zoo's script leaves it: names and nothing else."""
    with warnings.catch_warnings(action="ignore"):  # torch says at each step that TorchScript is old
        program: Any = torch.jit.trace(module.eval(), torch.zeros(2, 3, size, size), check_trace=False)
        (torch.jit.freeze(program) if frozen else program).save(str(path))
    return path


@pytest.fixture
def foreign(source: Classifier, tmp_path: Path) -> Path:
    return traced(source.module, tmp_path / "theirs.ts")


@pytest.fixture
def ours(source: Classifier, tmp_path: Path) -> Path:
    export(source, tmp_path / "bundle", format="torchscript")
    (program,) = tmp_path.glob("*.ts")
    return program


def test_a_program_from_elsewhere_runs_only_for_those_who_trust_it(source: Classifier, foreign: Path) -> None:
    with pytest.raises(BundleError) as caught:
        vitrail.open(foreign)
    assert caught.value.code == "V509" and "--trust" in caught.value.hint
    program = vitrail.open(foreign, trust=True)
    assert isinstance(program, Program)
    np.testing.assert_allclose(program.logits(BATCH), source.logits(BATCH), atol=1e-5)
    assert program.classes == ("class_0", "class_1", "class_2")


def test_a_program_of_ours_brings_its_policy_and_classes(source: Classifier, ours: Path) -> None:
    program = vitrail.open(ours)  # it was made here
    assert isinstance(program, Program)
    assert program.classes == source.classes and program.policy == source.policy
    np.testing.assert_allclose(program.logits(BATCH), source.logits(BATCH), atol=1e-5)


@pytest.mark.parametrize("form", [Form(takes="pixels"), Form(batch=2), Form("bf16"), Form(top=2)])
def test_each_form_of_a_program_runs(form: Form, source: Classifier, tmp_path: Path) -> None:
    export(source, tmp_path / "bundle", format="torchscript", form=form)
    (path,) = tmp_path.glob("*.ts")
    program = vitrail.open(path)
    bundle = vitrail.open(tmp_path / "bundle", engine="torchscript")
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    assert isinstance(program, Program) and program.takes == form.takes
    np.testing.assert_array_equal(
        program.logits(program.policy.normalise(pixels)), bundle.logits(bundle.policy.normalise(pixels))
    )


def test_the_weights_of_a_program_are_read_and_its_code_is_not_run(source: Classifier, foreign: Path) -> None:
    tensors, _, notes = read_tensors(foreign)
    state = source.module.state_dict()
    assert set(tensors) == set(state) and "not run" in notes[0]
    for name, tensor in state.items():
        np.testing.assert_array_equal(tensors[name].array(), tensor.numpy())
    opened = vitrail.weights.load(foreign).classifier
    np.testing.assert_array_equal(opened.logits(BATCH), source.logits(BATCH))


class Order(Enum):
    """What a layer of timm has among its attributes."""

    NCHW = "NCHW"


class _Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.order = Order.NCHW
        self.sizes: list[int] = [4, 4]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.mean((2, 3)) * self.sizes[0])
        return out if self.order == Order.NCHW else -out


def test_a_scripted_module_is_read_with_its_lists_and_enumerations(tmp_path: Path) -> None:
    module = _Scripted()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(module).save(str(tmp_path / "x.ts"))
    tensors, _, _ = read_tensors(tmp_path / "x.ts")
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"layer.weight": (2, 3), "layer.bias": (2,)}


def test_a_program_becomes_a_bundle_that_answers_as_it_did(foreign: Path, tmp_path: Path) -> None:
    export(foreign, tmp_path / "bundle", format="onnx")
    found = compare(tmp_path / "bundle", vitrail.open(foreign, trust=True))
    assert found.comparison.same
    assert [side.engine for side in found.sides][1] == "torchscript" and found.sides[1].weights_sha256 is None


def test_a_program_that_answers_otherwise_is_explained(source: Classifier, tmp_path: Path) -> None:
    """Made of channels in another order: what `compare` says of it beside the weights it was made from."""

    class Swapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = source.module

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.network(x.flip(1))
            return out

    path = traced(Swapped(), tmp_path / "bgr.ts", frozen=True)
    policy = replace(source.policy, mean=HALF.mean, std=HALF.std)  # what is assumed where nothing is said
    weights = replace(source, policy=policy, provenance={"weights": "trained"})
    found = compare(weights, vitrail.open(path, trust=True))
    assert not found.comparison.same and "BGR" in found.why[0]


def test_a_frozen_program_runs_though_its_weights_have_no_names(
    source: Classifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = traced(source.module, tmp_path / "frozen.ts", frozen=True)
    with pytest.raises(WeightsError) as caught:
        read_tensors(path)
    assert caught.value.code == "V206" and "frozen" in caught.value.what
    program = vitrail.open(path, trust=True)
    assert program.policy.size == (32, 32) and "policy assumed" in caplog.text
    np.testing.assert_allclose(program.logits(BATCH), source.logits(BATCH), atol=1e-5)


class _Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((2, 3)), x.sum((2, 3))


class _Map(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class _Fixed(nn.Module):
    """It takes two pictures of 33 pixels, which no side that is tried has."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 3, 33 * 33).mean(2)


class _Sparse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).to_sparse()


class _Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).to(torch.complex64)


class _None(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))[:, :0]


@pytest.mark.parametrize(
    ("module", "size"),
    [(_Two(), 32), (_Map(), 32), (_Fixed(), 33), (_Sparse(), 32), (_Complex(), 32), (_None(), 32)],
)
def test_V505_a_program_that_gives_no_logits_is_refused(module: nn.Module, size: int, tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        vitrail.open(traced(module, tmp_path / "x.ts", size=size), trust=True)
    assert caught.value.code == "V505"


def test_V505_a_batch_that_the_program_does_not_take_is_one_line(foreign: Path) -> None:
    program = vitrail.open(foreign, trust=True)
    assert isinstance(program, Program)
    with pytest.raises(BundleError) as caught:
        program.runner.logits(np.zeros((1, 3, 40, 40), np.float32))
    assert caught.value.code == "V505" and "(1, 3, 40, 40)" in caught.value.what


def test_V005_random_weights_stay_random(source: Classifier, ours: Path, tmp_path: Path) -> None:
    program = vitrail.open(ours)
    assert program.provenance["weights"] == "random"
    with pytest.raises(UsageError) as caught:
        compare(program, source)
    assert caught.value.code == "V005"


def test_what_is_assumed_is_said(foreign: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The policy of a variant, and probabilities that are taken for logits."""
    vitrail.open(foreign, trust=True)
    assert any("policy" in record.message for record in caplog.records if record.levelname == "WARNING")

    class Soft(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)).softmax(1)

    vitrail.open(traced(Soft(), tmp_path / "soft.ts"), trust=True)
    assert "probabilities" in caplog.text


def test_V007_an_engine_that_is_not_torchscript_is_refused(foreign: Path) -> None:
    for words in ({"engine": "openvino"}, {"threads": 1}, {"device": "cuda"}):
        with pytest.raises(UsageError) as caught:
            vitrail.open(foreign, trust=True, **words)  # type: ignore[arg-type]
        assert caught.value.code == "V007"


def test_show_says_what_a_program_of_ours_is(ours: Path, source: Classifier) -> None:
    values = show(str(ours)).values
    assert values["kind"] == "program" and values["class_names"] == list(source.classes)
    assert values["policy"] == source.policy.to_json()


@pytest.mark.parametrize("said", ['{"classes": 5, "policy": [1]}', "[]", '{"classes": ["a"], "takes": "images"}', "{"])
def test_V505_what_a_program_says_of_itself_is_judged_by_all(source: Classifier, tmp_path: Path, said: str) -> None:
    path = tmp_path / "x.ts"
    with warnings.catch_warnings(action="ignore"):
        program: Any = torch.jit.trace(source.module.eval(), torch.zeros(2, 3, 32, 32), check_trace=False)
        torch.jit.save(program, str(path), _extra_files={"vitrail.json": said})
    with pytest.raises(BundleError) as caught:
        show(str(path))
    assert caught.value.code == "V505"


def test_show_says_what_is_in_a_program_from_elsewhere(foreign: Path) -> None:
    assert any("not run" in line for line in show(str(foreign)).values["report"])


def test_the_verbs_take_a_program(foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    picture = pictures / "a.png"
    Image.new("RGB", (40, 30), (200, 10, 10)).save(picture)
    assert run(["predict", str(foreign), str(picture), "--json"]) == 2
    assert "V509" in capsys.readouterr().err
    assert run(["predict", str(foreign), str(picture), "--trust", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert run(["predict", str(foreign), str(pictures), "--out", str(tmp_path / "rows"), "--trust"]) == 0
    assert list((tmp_path / "rows").glob("*.csv"))
    capsys.readouterr()
    assert run(["benchmark", str(foreign), "--rounds", "1", "--trust", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["engine"] == "torchscript"


def test_a_damaged_program_is_no_program(foreign: Path) -> None:
    assert is_program(foreign)
    foreign.write_bytes(foreign.read_bytes()[:-30])
    assert not is_program(foreign)
    with pytest.raises(WeightsError):
        read_tensors(foreign)
