"""`vitrail convert`: from any world to any other, proven, and nothing left behind when refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.models.battery import Reference
from vitrail.cli.main import run, vitrail
from vitrail.errors import OutsideBound, UsageError, WeightsError
from vitrail.formats import npz, safetensors
from vitrail.formats.stored import Stored
from vitrail.models import build
from vitrail.models.catalog import variant
from vitrail.models.classifier import Classifier
from vitrail.models.configs import ViTConfig
from vitrail.opening import open as open_model
from vitrail.pictures.policy import HALF, Policy
from vitrail.verbs.convert import Wanted, convert, suggested
from vitrail.weights import native_tensors, save_as

SMALL = ViTConfig(image_size=(32, 32), patch=8, classes=5, dim=24, depth=2, heads=3, gelu="tanh")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    policy = Policy(size=(32, 32), mode="squash", mean=HALF.mean, std=HALF.std)
    path = tmp_path / "small.safetensors"
    save_as(Classifier(build(SMALL, seed=3), SMALL, policy, tuple("abcde")), path)
    return path


def test_round_the_world_every_bit_is_the_same(small: Path, tmp_path: Path) -> None:
    source: Path = small
    for step, name in enumerate(("a.npz", "b.h5", "c.weights.h5", "d.ckpt", "e.pth", "f", "g.npz")):
        target = tmp_path / name
        named = Wanted() if step == 0 or source.suffix in ("", ".npz") else Wanted(model=None)
        if source.suffix in (".h5", ".ckpt", ".pth"):
            with pytest.raises(WeightsError, match="explain"):  # no heads in there, and no variant is so small
                convert(source, target, wanted=named)
            source = tmp_path / f"{step}.safetensors"
            save_as(open_model(small), source)
        done = convert(source, target)
        assert done.tensors == len(native_tensors(build(SMALL)))
        assert "every bit equal" in done.line()
        source = target
    assert native_tensors(open_model(tmp_path / "g.npz").module) == native_tensors(open_model(small).module)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "g.npz").read_bytes()


def test_a_seeds_checkpoint_becomes_its_originals(shared: Path, tmp_path: Path) -> None:
    """MindSpore's CCT in SHI-Labs' names: the same logits, for the settings travel along."""
    reference = Reference(shared, "mindspore_cct_real_7_3x1_32")
    from vitrail.weights import from_tensors

    classifier = from_tensors(reference.formula(), "cct_7_3x1_32", dialect="mindspore")
    save_as(classifier, tmp_path / "seed.ckpt")
    done = convert(tmp_path / "seed.ckpt", tmp_path / "seed.safetensors", model="cct_7_3x1_32")
    assert any("gelu tanh" in line and "pool_padding same" in line for line in done.read)
    back = open_model(tmp_path / "seed.safetensors")
    assert np.abs(back.logits(reference.input) - reference.values["logits"]).max() <= 5e-5
    lost = convert(tmp_path / "seed.safetensors", tmp_path / "other.pth").lost
    assert [line.split(",")[0] for line in lost] == [
        "shi_labs computes with gelu erf",
        "shi_labs computes with pool_padding torch",
    ]


def test_size_channels_classes_and_head_are_fitted_and_said(small: Path, tmp_path: Path) -> None:
    wanted = Wanted(image_size=(48, 64), channels=1, classes=3, head="first-k")
    done = convert(small, tmp_path / "w.safetensors", wanted=wanted)
    assert any(line.startswith("pos_embed 4x4 -> 6x8 bicubic_antialias") for line in done.read)
    assert "patch_embed.proj.weight 3 -> 1 channels, summed" in done.read
    assert "head cut to the first 3 of its 5 rows" in done.read
    back, before = open_model(tmp_path / "w.safetensors"), open_model(small)
    assert (back.config.image_size, back.config.channels, back.config.classes) == ((48, 64), 1, 3)
    assert np.array_equal(back.module.head.weight.detach(), before.module.head.weight[:3].detach())


def test_nothing_is_left_behind_when_what_was_read_back_differs(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = npz.write
    broken = {"head/bias": Stored.of(np.full(5, 7, np.float32))}
    monkeypatch.setattr(npz, "write", lambda path, tensors: write(path, tensors | broken))
    with pytest.raises(OutsideBound) as caught:
        convert(small, tmp_path / "w.npz")
    assert caught.value.evidence == ("head.bias",)
    assert not (tmp_path / "w.npz").exists()


def test_refusals_leave_nothing_and_name_the_way_out(small: Path, tmp_path: Path) -> None:
    (tmp_path / "there.npz").write_bytes(b"mine")
    for call, kind, word in (
        (lambda: convert(small, tmp_path / "there.npz"), UsageError, "exists"),
        (lambda: convert(small, tmp_path / "w.onnx"), WeightsError, ".onnx"),
        (lambda: convert(small, tmp_path / "w.npz", to="goggle"), WeightsError, "goggle"),
        (lambda: convert(small, tmp_path / "w.npz", to="shi_labs"), WeightsError, "shi_labs"),
        (lambda: convert("vit_2_4_32", tmp_path / "w.pth", wanted=Wanted(channels=1)), UsageError, "variant"),
    ):
        with pytest.raises(kind, match=word):
            call()
    assert (tmp_path / "there.npz").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.safetensors", "there.npz"]


def test_the_command_line_and_its_json(small: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        vitrail, ["convert", str(small), str(tmp_path / "w.npz"), "--image-size", "48x32", "--json"]
    )
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert (values["dialect"], values["tensors"]) == ("google", 32)
    assert any("pos_embed" in line for line in values["read"])
    assert run(["convert", str(small)]) == 2
    assert run(["convert", str(small), str(tmp_path / "x.npz"), "--image-size", "wide"]) == 2


def test_a_private_checkpoint_is_a_table_of_a_few_lines(tmp_path: Path) -> None:
    """Names of one's own: `--suggest` begins the dialect, which then reads the file and writes it again."""
    row = variant("vit_tiny_patch16_224")
    config = replace(row.config, depth=3, classes=11)
    native = native_tensors(build(config, seed=1))
    theirs = {f"net.{name.replace('blocks', 'layer')}": tensor for name, tensor in native.items()}
    safetensors.write(tmp_path / "private.safetensors", theirs)
    table = tmp_path / "mine.yaml"
    table.write_text(suggested(tmp_path / "private.safetensors"))
    from vitrail.weights import load

    loaded = load(tmp_path / "private.safetensors", config, dialect=str(table)).classifier
    assert native_tensors(loaded.module) == native
    save_as(loaded, tmp_path / "again.safetensors", str(table))
    assert set(safetensors.read(tmp_path / "again.safetensors")[0]) == set(theirs)


def test_names_that_the_system_refuses_are_no_bug(small: Path, tmp_path: Path) -> None:
    long = "x" * 300
    for words in (
        ["convert", str(small), str(tmp_path / f"{long}.npz")],
        ["convert", str(small), str(small / "x.npz")],
        ["show", str(tmp_path / long)],
        ["predict", str(tmp_path / long), "a.jpg"],
    ):
        assert run(words) in (2, 4), words
    assert run(["predict", "", "a.jpg"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["small.safetensors"]


def test_a_folder_of_the_hub_may_have_a_dot_in_its_name(small: Path, tmp_path: Path) -> None:
    assert convert(small, tmp_path / "vit-1.5", to="huggingface").dialect == "huggingface"
    assert (tmp_path / "vit-1.5" / "config.json").is_file()


def test_what_the_file_has_no_place_for_is_said(small: Path, tmp_path: Path) -> None:
    lost = convert(small, tmp_path / "w.npz").lost
    assert "the file has no place for the names of 5 classes: a, b, c, ..." in lost
    assert any(line.startswith("the file has no place for the policy: squash") for line in lost)
    assert convert(small, tmp_path / "again.safetensors").lost == ()


def test_a_variants_classes_may_be_asked_for_and_its_weights_are_said_to_be_random(tmp_path: Path) -> None:
    done = convert("vit_2_4_32", tmp_path / "w.pth", wanted=Wanted(classes=3))
    assert done.read == ("its weights are random, of seed 0: nothing was trained",)
    assert open_model(tmp_path / "w.pth").config.classes == 3


def test_wrong_objects_in_python_are_refused_by_name(small: Path, tmp_path: Path) -> None:
    import vitrail

    model = open_model(small)
    for call in (
        lambda: vitrail.create("vit_2_4_32", classes=-1),
        lambda: save_as(3, tmp_path / "w.npz"),  # type: ignore[arg-type]
        lambda: list(model.predict("a.jpg")),
        lambda: model.intermediates(np.zeros((1, 3, 32, 32), np.float32), "blocks.1"),
        lambda: model.logits("pictures"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError):
            call()
