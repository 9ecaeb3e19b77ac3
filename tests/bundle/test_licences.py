"""C14: licences are stated or `unknown`, kept to the letter, shown, and handed on by every conversion."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import vitrail
from tests.bundle import tiny
from tests.bundle.test_manifest import edited, refused, whole
from vitrail.bundle.manifest import Licences, Manifest
from vitrail.bundle.read import read_manifest
from vitrail.cli import run
from vitrail.errors import UsageError
from vitrail.recipe import load_recipe
from vitrail.verbs import finish
from vitrail.weights import load, save_as
from vitrail.weights.published import names, published

STATED = {"weights": "CC-BY-4.0", "data": "MIT"}


@pytest.mark.parametrize("text", ["CC-BY-4.0 (§ 3, naïve)", "LicenseRef-see https://example.com/a?b=c", "x" * 200])
def test_C14_a_licence_is_kept_to_the_letter(text: str) -> None:
    manifest = dataclasses.replace(Manifest.from_json(whole()), licences=Licences(text, "unknown"))
    assert Manifest.from_json(manifest.to_json()).licences == Licences(text, "unknown")


@pytest.mark.parametrize("text", ["", "\x1b[31mMIT", "MIT\nGPL", "\u202eTIM", "x" * 201, 7, None, ["MIT"]])
@pytest.mark.parametrize("part", ["weights", "data"])
def test_C14_what_is_no_line_of_text_is_refused(part: str, text: object) -> None:
    assert (
        f"licences.{part} must be 1 to 200 printable characters"
        in refused(edited(lambda values: values["licences"].update({part: text}))).what
    )


@pytest.mark.parametrize(
    ("own", "told", "then"),
    [
        (("unknown", "unknown"), ("MIT", "unknown"), ("MIT", "unknown")),
        (("MIT", "unknown"), ("unknown", "CC0-1.0"), ("MIT", "CC0-1.0")),
        (("MIT", "CC0-1.0"), ("MIT", "unknown"), ("MIT", "CC0-1.0")),
        (("MIT", "unknown"), ("Apache-2.0", "unknown"), None),
        (("unknown", "unknown"), ("\x1b]0;x", "unknown"), None),
        (("unknown", "unknown"), ("unknown", ""), None),
    ],
)
def test_C14_what_is_told_fills_what_was_unknown(
    own: tuple[str, str], told: tuple[str, str], then: tuple[str, str] | None
) -> None:
    if then is not None:
        assert Licences(*own).with_told(Licences(*told)) == Licences(*then)
        return
    with pytest.raises(UsageError) as caught:
        Licences(*own).with_told(Licences(*told))
    assert caught.value.code == "V007" and "\x1b" not in str(caught.value)


def test_C14_an_export_states_them_and_show_says_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "b"
    words = ["export", "cct_2_3x2_32", "--out", str(bundle)]
    assert run([*words, "--licence", "weights=CC-BY-4.0"]) == 0
    assert read_manifest(bundle).licences == Licences("CC-BY-4.0")
    capsys.readouterr()
    assert run(["show", str(bundle)]) == 0
    assert "licences:\n  weights: CC-BY-4.0\n  data: unknown\n" in capsys.readouterr().out
    before = tiny.contents(bundle)
    other = ["export", str(bundle), "--format", "torch-export", "--licence", "weights=MIT"]
    assert run(other) == 2
    assert "the licence of the weights is stated already: CC-BY-4.0, not MIT" in capsys.readouterr().err
    assert tiny.contents(bundle) == before
    assert run([*other[:-1], "data=MIT"]) == 0
    assert read_manifest(bundle).licences == Licences(**STATED)
    assert sorted(read_manifest(bundle).engines) == ["onnx-fp32", "torch-export-fp32"]


@pytest.mark.parametrize("words", [["MIT"], ["weights="], ["code=MIT"], ["weights=MIT", "weights=MIT"]])
def test_C14_what_names_no_part_is_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [part for word in words for part in ("--licence", word)]
    assert run(["export", "cct_2_3x2_32", "--out", str(tmp_path / "b"), *options]) == 2
    assert capsys.readouterr().err.startswith(f"error[V001]: --licence is `{words[-1]}`")
    assert not (tmp_path / "b").exists()


def test_C14_a_conversion_hands_them_on(tmp_path: Path) -> None:
    source = vitrail.create("cct_2_3x2_32")
    source = dataclasses.replace(source, provenance={**source.provenance, "licences": STATED})
    assert save_as(source, tmp_path / "native.safetensors") == ()
    again = load(tmp_path / "native.safetensors").classifier
    assert again.provenance["licences"] == STATED
    said = save_as(again, tmp_path / "theirs.pth")
    assert any(line.startswith("the file has no place for licences: ") and "weights CC-BY-4.0" in line for line in said)
    assert "licences" not in load(tmp_path / "theirs.pth").classifier.provenance


@pytest.mark.parametrize("licences", [["MIT"], {"weights": 7}, {"code": "MIT"}, {"data": "\x1b[2J"}])
def test_C14_licences_of_a_file_are_texts(licences: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = vitrail.create("cct_2_3x2_32")
    save_as(dataclasses.replace(source, provenance={"licences": STATED}), tmp_path / "a.safetensors")
    from vitrail.formats import safetensors
    from vitrail.weights.saved import KEY

    tensors, metadata = safetensors.read(tmp_path / "a.safetensors")
    import json

    metadata[KEY] = json.dumps({**json.loads(metadata[KEY]), "licences": licences})
    safetensors.write(tmp_path / "b.safetensors", tensors, metadata)
    assert run(["convert", str(tmp_path / "b.safetensors"), str(tmp_path / "c.pth")]) == 2
    assert "licences are no texts of weights and data" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("cct_7_3x1_32")][:1] or names()[:1])
def test_C14_published_weights_hand_theirs_to_what_is_trained_from_them(name: str) -> None:
    begun = load_recipe("digits/cct_2_3x2_32", [f"weights.path={name}"])
    assert finish._licences(begun) == Licences(published(name).licence)
    assert finish._begun(begun) == name
    assert finish._licences(load_recipe("digits/cct_2_3x2_32")) == Licences()
