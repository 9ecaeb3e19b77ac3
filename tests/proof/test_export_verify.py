from __future__ import annotations

import dataclasses
import functools
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bundle import tiny
from tests.bundle.test_manifest import edited
from vitrail.bundle.manifest import NAME, WEIGHTS, Licences, Manifest
from vitrail.bundle.read import check
from vitrail.bundle.values import canonical, parse
from vitrail.bundle.write import write_bundle
from vitrail.disk import sha256_bytes
from vitrail.engines import bundle_classifier, onnx, open_bundle
from vitrail.errors import BundleError, OutsideBound, PictureError, UsageError
from vitrail.evaluation.answers import CheckPicture, digest
from vitrail.formats.safetensors import dumps
from vitrail.formats.safetensors import read as read_tensors
from vitrail.formats.stored import Stored
from vitrail.proof.export import describe, export
from vitrail.proof.prove import prove
from vitrail.proof.verify import verify
from vitrail.weights import native_tensors

REPORT = "proof/onnx-fp32/report.json"
LOGITS = "proof/onnx-fp32/source.safetensors"


@pytest.fixture
def no_writing_of_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports take the graph that is there: writing one costs a second, and is tested elsewhere."""
    graph = tiny.graph()
    monkeypatch.setattr(onnx, "write", lambda module, classes, image, form: graph)


def test_an_export_holds_graph_weights_and_proof(tmp_path: Path) -> None:
    with check(tiny.bundle(tmp_path)) as opened:
        assert sorted(opened.files) == ["engines/onnx-fp32/model.onnx", REPORT, LOGITS, WEIGHTS]
        report = parse(opened.read(REPORT), "report")
        manifest = opened.manifest
    assert (report["generated"], report["given"], report["batches"]) == (64, 5, [1, 2, 7])
    assert report["gate"] == 4 * report["source_error"] + 1e-6
    assert manifest.provenance == {"seed": 3}
    assert (manifest.weights, manifest.variant) == ("random", "cct")
    tensors, _ = read_tensors(tmp_path / LOGITS)
    assert tensors["generated.float64"].shape == tensors["generated.float32"].shape == (64, 5)
    assert tensors["given.sha256"].array()[0].tobytes() == digest(tiny.pictures()[0].read())


@pytest.mark.usefixtures("no_writing_of_graphs")
def test_C15_an_export_made_twice_is_byte_equal(tmp_path: Path) -> None:
    export(tiny.classifier(), tmp_path / "again", pictures=tiny.pictures())
    assert tiny.contents(tmp_path / "again") == tiny.bundle_files()


@pytest.mark.usefixtures("no_writing_of_graphs")
def test_an_engine_is_added_to_a_bundle_of_the_same_weights(tmp_path: Path) -> None:
    folder, source = tmp_path / "b", tiny.classifier()
    tensors = native_tensors(source.module)
    terms = {"licences": {"weights": "MIT", "data": "CC0-1.0"}}
    described = describe(dataclasses.replace(source, provenance={**source.provenance, **terms}), tensors)
    write_bundle(folder, described, {WEIGHTS: tiny.bundle_files()[WEIGHTS]})
    done = export(bundle_classifier(folder), folder, pictures=tiny.pictures())
    assert done.engine == "onnx-fp32"
    assert open_bundle(folder).manifest.licences == Licences("MIT", "CC0-1.0")
    assert export(bundle_classifier(folder), folder, pictures=tiny.pictures()).manifest.digest == done.manifest.digest
    with pytest.raises(BundleError) as caught:
        export(bundle_classifier(folder), folder)  # another proof: its files have other bytes
    assert caught.value.code == "V506"


@pytest.mark.usefixtures("no_writing_of_graphs")
def test_an_export_without_weights_opens_on_its_engine_alone(tmp_path: Path) -> None:
    export(tiny.classifier(), tmp_path / "b", with_weights=False)
    assert open_bundle(tmp_path / "b").engine == "onnx"
    with pytest.raises(BundleError):
        bundle_classifier(tmp_path / "b")


def test_C16_a_failed_proof_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, bundle = tiny.graph("cvt"), tiny.bundle(tmp_path / "bundle")
    monkeypatch.setattr(onnx, "write", lambda module, classes, image, form: other)
    for out in (tmp_path / "new", bundle):
        with pytest.raises(OutsideBound) as caught:
            export(tiny.classifier(), out)
        assert caught.value.code == "V801"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    assert tiny.contents(bundle) == tiny.bundle_files()


def test_what_would_be_refused_after_the_work_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "write", lambda *_, **__: pytest.fail("the work was begun"))
    (tmp_path / "mine").mkdir()
    bundle = tiny.bundle(tmp_path / "bundle")
    other = dataclasses.replace(tiny.classifier(), classes=tiny.CLASSES[::-1])
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("V006", (tiny.classifier(), tmp_path / "mine"), {}),
        ("V007", (tiny.classifier(), tmp_path / "new"), {"format": "onix"}),
        ("V506", (tiny.classifier("cvt"), bundle), {}),
        ("V506", (other, bundle), {}),
    ]
    for code, given, options in cases:
        with pytest.raises((UsageError, BundleError)) as caught:
            export(*given, **options)
        assert caught.value.code == code


@pytest.mark.parametrize("engine", ["onnx", "openvino", "torch"])
def test_a_bundle_is_verified_on_every_engine(tmp_path: Path, engine: str) -> None:
    bundle = open_bundle(tiny.bundle(tmp_path), engine=engine)
    unknown = CheckPicture.of(tiny.pictures()[0].read()[::-1], 2)
    found = verify(bundle, pictures=[*tiny.pictures()[:3], unknown, CheckPicture.of(unknown.read()[:, ::-1])])
    found.raise_if_failed()
    assert (found.generated, found.matched, found.unknown, found.labelled) == (64, 3, 2, 1)
    assert found.line().startswith(f"verified on {engine}: max |dlogit| ")
    assert verify(bundle).labelled == 0


def test_accuracy_of_unknown_pictures_is_counted(tmp_path: Path) -> None:
    bundle = open_bundle(tiny.bundle(tmp_path))
    pixels = [picture.read()[::-1] for picture in tiny.pictures()]
    names = [prediction.classes[0] for prediction in tiny.classifier().predict(pixels, top=1)]  # type: ignore[union-attr]
    labels = [tiny.CLASSES.index(name) for name in names]
    labels[0] = (labels[0] + 1) % 5
    pictures = [CheckPicture.of(p, label) for p, label in zip(pixels, labels, strict=True)]
    assert (verify(bundle, pictures=pictures).correct, verify(bundle, pictures=pictures).labelled) == (4, 5)


@pytest.mark.parametrize("fault", [1e-3, float("nan")])
def test_V802_other_answers_are_caught(tmp_path: Path, fault: float) -> None:
    bundle = open_bundle(tiny.bundle(tmp_path))

    class Wrong:
        def logits(self, batch: Any, /) -> Any:
            return bundle.logits(batch) + np.float32(fault)

    with pytest.raises(OutsideBound) as caught:
        verify(dataclasses.replace(bundle, runner=Wrong())).raise_if_failed()
    assert caught.value.code == "V802"


def test_a_bundle_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    bundle = open_bundle(tiny.bundle(tmp_path))
    (tmp_path / NAME).write_bytes(edited(lambda v: v["provenance"].update(seed=4)))
    with pytest.raises(BundleError) as caught:
        verify(bundle)
    assert caught.value.code == "V502"


def test_V507_weights_alone_have_no_proof(tmp_path: Path) -> None:
    manifest = dataclasses.replace(Manifest.from_json(tiny.bundle_files()[NAME]), files={}, engines={})
    write_bundle(tmp_path / "b", manifest, {WEIGHTS: tiny.bundle_files()[WEIGHTS]})
    with pytest.raises(BundleError) as caught:
        verify(open_bundle(tmp_path / "b"))
    assert caught.value.code == "V507"


@pytest.mark.parametrize(
    ("change", "engine"),
    [({"gate": 1.0}, {}), ({"gate": 1e300, "precision": "int8"}, {})]
    + [({"gate": 1e300, "precision": name}, {"precision": name}) for name in ("fp16", "bf16", "int8")]
    + [({}, {"precision": "int8"})],
    ids=str,
)
def test_a_widened_gate_is_refused(tmp_path: Path, change: dict[str, Any], engine: dict[str, Any]) -> None:
    folder = tiny.bundle(tmp_path)
    report = {**parse((folder / REPORT).read_bytes(), "report"), **change}
    data = canonical(report)
    (folder / REPORT).write_bytes(data)
    entry = {"size": len(data), "sha256": sha256_bytes(data)}

    def forge(values: dict[str, Any]) -> None:
        values["files"][REPORT] = entry
        values["engines"]["onnx-fp32"].update(engine)

    (folder / NAME).write_bytes(edited(forge))
    with pytest.raises(BundleError) as caught:
        verify(open_bundle(folder))
    assert caught.value.code == "V501"


def with_encoded(folder: Path, rows: Any) -> Path:
    """The bundle with other logits of the encoded pictures in its proof, or none, as older versions wrote it."""
    tensors = {k: v for k, v in read_tensors(folder / LOGITS)[0].items() if k != "encoded.float64"}
    data = dumps(tensors if rows is None else {**tensors, "encoded.float64": Stored.of(rows)})
    (folder / LOGITS).write_bytes(data)
    entry = {"size": len(data), "sha256": sha256_bytes(data)}
    (folder / NAME).write_bytes(edited(lambda values: values["files"].update({LOGITS: entry})))
    return folder


def test_a_bundle_of_before_the_encoded_pictures_still_verifies(tmp_path: Path) -> None:
    found = verify(open_bundle(with_encoded(tiny.bundle(tmp_path), None)))
    found.raise_if_failed()
    assert (found.generated, found.encoded) == (64, 0)


def test_encoded_pictures_are_held_against_the_proof(tmp_path: Path) -> None:
    right = read_tensors(tiny.bundle(tmp_path / "a") / LOGITS)[0]["encoded.float64"].array()
    with pytest.raises(OutsideBound):
        verify(open_bundle(with_encoded(tmp_path / "a", right[::-1].copy()))).raise_if_failed()
    with pytest.raises(BundleError) as caught:
        verify(open_bundle(with_encoded(tiny.bundle(tmp_path / "b"), right[:3].copy())))
    assert caught.value.code == "V501"


def test_one_decoded_picture_at_a_time_is_held(tmp_path: Path) -> None:
    held: list[weakref.ref[Any]] = []
    most = 0

    def decoded(index: int) -> Any:
        nonlocal most
        pixels = np.full((9, 9 + index, 3), index, np.uint8)
        held.append(weakref.ref(pixels))
        most = max(most, sum(ref() is not None for ref in held))
        return pixels

    bundle = open_bundle(tiny.bundle(tmp_path))
    pictures = [CheckPicture(functools.partial(decoded, index), 0) for index in range(50)]
    proof = prove(tiny.classifier(), bundle, pictures=pictures)
    assert (len(held), most <= 2) == (50, True)  # decoded once; the one before lives until its name is taken
    assert proof.digests == tuple(digest(picture.read()) for picture in pictures)
    assert verify(bundle, pictures=pictures).unknown == 50
    assert most <= 2


def test_a_picture_that_cannot_be_read_stops_the_proof_by_its_own_error(tmp_path: Path) -> None:
    def unreadable() -> Any:
        raise PictureError("V302", "no picture")

    bundle = open_bundle(tiny.bundle(tmp_path))
    with pytest.raises(PictureError):
        prove(tiny.classifier(), bundle, pictures=[CheckPicture(unreadable)])
    with pytest.raises(PictureError):
        verify(bundle, pictures=[CheckPicture(unreadable)])


def test_graphs_are_opened_by_the_engine_before_they_are_proven() -> None:
    assert onnx.check(tiny.graph()).opset == onnx.OPSET
