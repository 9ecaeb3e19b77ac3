"""Every format in every form: written, proven, opened again; programs only where they are trusted."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

import vitrail
from tests.bundle import tiny
from vitrail.bundle.formats import FORMATS, Form
from vitrail.bundle.manifest import NAME, Manifest
from vitrail.engines import choice, graphs, open_bundle, opened, openvino, torch_export, torchscript, trust
from vitrail.errors import BundleError, OutsideBound, SystemFault, UsageError
from vitrail.pictures.predict import taken
from vitrail.proof.export import export, graph_name
from vitrail.proof.verify import verify

QUICK = ("openvino", "torchscript", "torch-export")
FORMS = (Form(), Form(takes="pixels"), Form(batch=3))
SHORT = {"onnx": ("fp16",), "openvino": ("bf16",), "torchscript": ("bf16", "fp16"), "torch-export": ("bf16",)}
CASES = [(name, form) for name in QUICK for form in FORMS] + [
    *(("onnx", form) for form in FORMS[1:]),
    *((name, Form(precision)) for name, precisions in SHORT.items() for precision in precisions),  # type: ignore[arg-type]
]


@functools.cache
def everything() -> dict[str, bytes]:
    """A bundle with a graph for each case."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "bundle"
        for name, form in CASES:
            export(tiny.classifier("vit_lite"), folder, format=name, form=form, pictures=tiny.pictures())
        return tiny.contents(folder)


def bundle(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    for name, data in (files or everything()).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(("name", "form"), CASES, ids=[graph_name(*case) for case in CASES])
def test_C16_every_format_gives_the_proven_answers(tmp_path: Path, name: str, form: Form) -> None:
    opened = open_bundle(bundle(tmp_path), engine=graph_name(name, form))
    assert (opened.engine, opened.graph, opened.takes) == (FORMATS[name].engine, graph_name(name, form), form.takes)
    assert verify(opened, pictures=tiny.pictures()).failures == ()
    pixels = np.stack([opened.policy.pixels(picture.read()) for picture in tiny.pictures()])
    source = tiny.classifier("vit_lite").logits(opened.policy.normalise(pixels))
    error = {"fp32": 2e-5, "fp16": 2e-2, "bf16": 1e-1}[form.precision]
    for asked in (taken(opened, pixels), opened.policy.normalise(pixels), pixels):
        assert np.abs(opened.logits(asked) - source).max() <= error


@pytest.mark.parametrize("name", QUICK)
def test_C15_the_same_bytes_in_every_process(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys, hashlib; from tests.bundle import tiny; from vitrail.engines import graphs;"
        "from vitrail.bundle.formats import Form;"
        "written = graphs.write(tiny.classifier('vit_lite'), sys.argv[1], Form());"
        "print(*(hashlib.sha256(data).hexdigest() for data in written.files.values()))"
    )
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", not torch.backends.cudnn.allow_tf32)
    out = subprocess.run([sys.executable, "-c", code, name], cwd=root, capture_output=True, text=True, check=True)
    ours = graphs.write(tiny.classifier("vit_lite"), name, Form())
    assert out.stdout.split() == [hashlib.sha256(data).hexdigest() for data in ours.files.values()]
    assert not any(str(root).encode() in data for data in ours.files.values())


def test_auto_keeps_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    folder = bundle(tmp_path)
    assert open_bundle(folder).manifest.engines[str(open_bundle(folder).graph)].precision == "fp32"
    short = open_bundle(folder, engine="auto-bf16")
    assert short.manifest.engines[str(short.graph)].precision == "bf16"
    with pytest.raises(BundleError) as caught:
        open_bundle(folder, engine="auto-int8")
    assert (caught.value.code, "int8" in caught.value.what) == ("V504", True)


def test_the_weights_are_held_to_a_proof_in_float32(tmp_path: Path) -> None:
    found = verify(open_bundle(bundle(tmp_path), engine="torch"))
    assert found.gate < 1e-4  # that of bf16 is a thousand times wider


def test_pixels_are_found_again_in_images_or_refused(tmp_path: Path) -> None:
    opened = open_bundle(bundle(tmp_path), engine="openvino-fp32-pixels")
    with pytest.raises(UsageError) as caught:
        opened.logits(np.full((1, 3, *tiny.SIZE), 0.123, np.float32))
    assert caught.value.code == "V007"


@pytest.mark.parametrize("name", ["torchscript", "torch-export"])
def test_C18_a_program_made_elsewhere_is_run_only_when_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = bundle(tmp_path / "bundle")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(BundleError) as caught:
        open_bundle(folder, engine=name)
    assert caught.value.code == "V509"
    assert open_bundle(folder).engine in ("onnx", "openvino")  # auto takes data then
    with trust.trusting():
        assert open_bundle(folder, engine=name).engine == name
    assert trust.remember(open_bundle(folder).manifest.files[f"engines/{name}-fp32/{FORMATS[name].file}"].sha256)
    assert open_bundle(folder, engine=name).engine == name


class Inverts(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(x)


def test_C18_an_operation_that_no_network_of_ours_has_is_refused() -> None:
    buffer = io.BytesIO()
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(Inverts()), buffer)
    with pytest.raises(BundleError) as caught:
        torchscript.open(buffer.getvalue())
    assert (caught.value.code, "linalg_inv" in caught.value.what) == ("V505", True)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(Inverts(), (torch.eye(3),)), buffer)
    with pytest.raises(BundleError) as caught:
        torch_export.open(buffer.getvalue())
    assert (caught.value.code, "linalg_inv" in caught.value.what) == ("V505", True)


@pytest.mark.parametrize("name", QUICK)
def test_C11_damaged_graphs_are_refused(tmp_path: Path, name: str) -> None:
    graph = graph_name(name, Form())
    first = f"engines/{graph}/{FORMATS[name].file}"
    whole = everything()[first]
    for damaged in (b"", whole[: len(whole) // 2], bytes(reversed(whole))):
        stored = open_bundle(bundle(tmp_path)).manifest
        files = {**everything(), first: damaged}
        with pytest.raises(BundleError) as caught:
            graphs.open(
                graphs.Stored(stored.engines[graph], stored.config, stored.classes, files.__getitem__),
                FORMATS[name].engine,
            )
        assert caught.value.code == "V505"
        bundle(tmp_path, {first: damaged})
        with pytest.raises(BundleError) as caught:
            open_bundle(tmp_path)
        assert caught.value.code == "V502"
        bundle(tmp_path)


def test_C16_a_wrong_network_is_not_exported_in_bf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny.classifier("vit_lite")
    honest = graphs.write

    def scaled(given: object, format: str, form: Form) -> object:
        other = dataclasses.replace(source, module=torch.nn.Sequential(source.module, Scaled()))
        return honest(other, format, form)

    monkeypatch.setattr(graphs, "write", scaled)
    with pytest.raises(OutsideBound) as caught:
        export(source, tmp_path / "bundle", format="openvino", form=Form("bf16"))
    assert caught.value.code == "V801"
    assert not (tmp_path / "bundle").exists()


class Scaled(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1.2 * x


@pytest.mark.parametrize(("name", "form"), [("torchscript", Form("int8")), ("onnx", Form("bf16")), ("onx", Form())])
def test_V007_a_form_that_there_is_not(tmp_path: Path, name: str, form: Form) -> None:
    with pytest.raises(UsageError) as caught:
        export(tiny.classifier(), tmp_path / "bundle", format=name, form=form)
    assert caught.value.code == "V007"


def test_a_bundle_of_format_1_0_is_read(tmp_path: Path) -> None:
    from tests.bundle.test_manifest import edited

    def older(values: dict[str, object]) -> None:
        values["format"] = "1.0"
        for entry in values["engines"].values():  # type: ignore[attr-defined]
            del entry["takes"], entry["batch"]

    folder = tiny.bundle(tmp_path)
    (folder / NAME).write_bytes(edited(older))
    assert open_bundle(folder, engine="onnx").takes == "images"
    export(tiny.classifier(), folder, format="torchscript")
    assert open_bundle(folder, engine="torchscript").manifest.format == "1.1"


def test_auto_never_goes_to_a_shorter_precision_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(tiny.classifier("vit_lite"), tmp_path / "b", format="openvino", form=Form("bf16"))
    opened = open_bundle(tmp_path / "b")
    assert (opened.engine, opened.graph) == ("torch", None)  # the weights are in float32
    assert open_bundle(tmp_path / "b", engine="auto-bf16").graph == "openvino-bf16"
    monkeypatch.setattr(choice, "installed", lambda engine: engine == "openvino")
    assert open_bundle(tmp_path / "b").engine == "torch"  # and not, without a word, bf16


@pytest.mark.parametrize("name", ["torchscript", "torch-export"])
def test_C16_a_program_is_held_against_the_manifest(tmp_path: Path, name: str) -> None:
    folder, graph = bundle(tmp_path), graph_name(name, Form())
    whole = Manifest.from_json((folder / NAME).read_bytes())
    entry = whole.engines[graph]
    for change in (
        {"classes": whole.classes[::-1]},
        {"engines": {**whole.engines, graph: dataclasses.replace(entry, facts={**entry.facts, "gelu": ["tanh"]})}},
    ):
        (folder / NAME).write_bytes(dataclasses.replace(whole, **change).to_json())  # type: ignore[arg-type]
        with pytest.raises(BundleError) as caught:
            open_bundle(folder, engine=graph)
        assert caught.value.code == "V502"


@pytest.mark.parametrize("given", ["y, (y, y)", "y, [y]", "y[0]", "y, y", "[y]"])
def test_V505_a_program_that_gives_no_plain_logits(tmp_path: Path, given: str) -> None:
    """Whoever trusts it learns what is wrong, and not that we have a bug."""
    folder = bundle(tmp_path)
    whole = Manifest.from_json((folder / NAME).read_bytes())
    name = graph_name("torchscript", Form())
    stored = graphs.Stored(whole.engines[name], whole.config, whole.classes, None, None)  # type: ignore[arg-type]
    logits = torch.zeros(1, len(whole.classes))
    with pytest.raises(BundleError) as caught:
        graphs._seen(stored, None, lambda images: eval(given, {"y": logits}), None)  # type: ignore[arg-type]
    assert caught.value.code == "V505"


def test_auto_passes_over_what_gives_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> object:
        raise SystemFault("V703", "OpenVINO fails on 2 pictures at a time")

    folder = tiny.bundle(tmp_path)
    monkeypatch.setattr(opened, "remembered", lambda ways, question: None)
    monkeypatch.setattr(openvino._Compiled, "logits", fails)
    assert open_bundle(folder).engine == "onnx"
    assert "openvino is passed over: OpenVINO fails" in caplog.text


@pytest.mark.parametrize("wrong", ["auto", "torch", "onnx", "openvino-bf16", "onnx-fp32x"])
def test_C13_a_graph_cannot_be_called_as_an_engine_is(tmp_path: Path, wrong: str) -> None:
    whole = Manifest.from_json((tiny.bundle(tmp_path) / NAME).read_bytes())
    (entry,) = whole.engines.values()
    with pytest.raises(BundleError) as caught:
        dataclasses.replace(whole, engines={wrong: entry}).to_json()
    assert caught.value.code == "V501"


def test_the_program_alone_lies_beside_the_bundle_and_replaces_nothing(tmp_path: Path) -> None:
    source = dataclasses.replace(
        tiny.classifier("vit_lite"), provenance={"weights": "random", "variant": "../../outside", "seed": 3}
    )
    done = vitrail.export(source, tmp_path / "in" / "b", format="torchscript")
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["b", "b.ts"]
    graph = open_bundle(done.folder, engine="torchscript").manifest.engines["torchscript-fp32"]
    assert (tmp_path / "in" / "b.ts").read_bytes() == (done.folder / graph.file).read_bytes()
    (tmp_path / "in" / "b.ts").write_bytes(b"mine")
    again = vitrail.export(source, tmp_path / "in" / "b", format="torchscript")
    assert (tmp_path / "in" / "b.ts").read_bytes() == b"mine"
    assert "is another file" in " ".join(again.notes)


def test_a_user_without_a_home_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "made_here", lambda: None)
    done = export(tiny.classifier("vit_lite"), tmp_path / "b", format="torchscript")
    assert "--trust" in " ".join(done.notes)
    with pytest.raises(BundleError) as caught:
        open_bundle(tmp_path / "b", engine="torchscript")
    assert caught.value.code == "V509"


def test_an_engine_that_refuses_does_not_end_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise BundleError("V505", "not today", hint="tomorrow")

    monkeypatch.setattr("vitrail.engines.openvino.open", refuses)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert open_bundle(tiny.bundle(tmp_path / "b")).engine == "onnx"


def test_more_pictures_than_a_program_takes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_export, "LARGEST_BATCH", 4)
    opened = open_bundle(bundle(tmp_path), engine="torch-export")
    images = np.random.default_rng(1).standard_normal((9, 3, *tiny.SIZE)).astype(np.float32)
    np.testing.assert_allclose(opened.logits(images), tiny.classifier("vit_lite").logits(images), atol=2e-5)


@pytest.mark.prove
def test_C16_machine_code_gives_the_proven_answers(tmp_path: Path) -> None:
    export(tiny.classifier("vit_lite"), tmp_path / "b", format="aoti", pictures=tiny.pictures())
    assert verify(open_bundle(tmp_path / "b", engine="aoti"), pictures=tiny.pictures()).failures == ()
    assert open_bundle(tmp_path / "b").engine == "torch"  # auto runs no machine code
    with pytest.raises(BundleError) as caught:
        export(tiny.classifier("vit_lite"), tmp_path / "b", format="aoti")
    assert caught.value.code == "V506"
