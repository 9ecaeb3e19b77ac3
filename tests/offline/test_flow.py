"""The offline flow through the command line: the packages' files and lines, and exactly the accuracy of `evaluate`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.offline import made
from vitrail.cli import run
from vitrail.engines import open_bundle
from vitrail.pictures.policy import Policy
from vitrail.proof.export import export
from vitrail.verbs.evaluate import evaluate

TIME = re.compile(r"NN inference cost average time: ([\d.]+) ms of infer_count (\d+)\n")  # the packages' pattern
POLICY = ["policy.size=[40,40]", "policy.mean=[0.4914,0.4822,0.4465]", "policy.std=[0.2023,0.1994,0.2010]"]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# ---- the ViT package


def test_records_are_the_packages_bytes(tmp_path: Path) -> None:
    data, rows = made.cifar(tmp_path / "cifar-10-verify-bin")
    words = ["policy.size=[32,32]", *POLICY[1:]]
    assert run(["offline", "pack", str(data), str(tmp_path / "packed"), *words, "--dataset", "cifar10"]) == 0
    files = contents(tmp_path / "packed")
    names = [f"vit_base_cifar10_1_{number}.bin" for number in range(made.PICTURES)]
    assert set(files) == {*(f"img_data/{name}" for name in names), *(f"label/{name}" for name in names), "pack.json"}
    mean, std = (np.array(values).reshape(3, 1, 1) for values in made.THEIRS)
    for name, row in zip(names, rows, strict=True):
        wanted = ((row[1:].reshape(3, 32, 32) / 255.0 - mean) / std).astype("<f4")
        assert files[f"img_data/{name}"] == wanted.tobytes()
        assert files[f"label/{name}"] == int(row[0]).to_bytes(4, "little")


def test_a_record_of_the_published_size_has_602112_bytes(tmp_path: Path) -> None:
    data, _ = made.cifar(tmp_path / "data", pictures=1)
    words = ["policy.size=[224,224]", "policy.interpolation=bilinear", *POLICY[1:]]
    assert run(["offline", "pack", str(data), str(tmp_path / "packed"), *words, "--dataset", "cifar10"]) == 0
    assert (tmp_path / "packed" / "img_data" / "vit_base_cifar10_1_0.bin").stat().st_size == 602_112


def test_run_has_the_packages_files_and_evaluates_exactly(done: Path, vit: Path, cifar: Path) -> None:
    assert {path.name for path in done.iterdir()} == {
        ".lock", "preprocess_Result", "result_Files", "time_Result", "infer.log", "acc.log",
    }  # fmt: skip
    results = sorted(path.name for path in (done / "result_Files").iterdir())
    assert results == sorted(f"vit_base_cifar10_1_{number}_0.bin" for number in range(made.PICTURES))
    found = TIME.fullmatch((done / "time_Result" / "test_perform_static.txt").read_text())
    assert found is not None and float(found[1]) > 0 and found[2] == "50"
    log = (done / "infer.log").read_text().splitlines()
    assert len(log) == made.PICTURES + 1 and log[-1] == found[0].strip().replace(" ms", "ms")
    assert log[0] == f"Start predict input files:{done}/preprocess_Result/img_data/vit_base_cifar10_1_0.bin"
    measured = evaluate(vit, cifar, batch=1).evaluation
    logged = (done / "acc.log").read_text()
    assert logged == made.acc_log_of_vit(done / "result_Files", done / "preprocess_Result" / "label")
    assert logged == (
        f"after allreduce eval: top1_correct={measured.correct}, tot=50, acc={100 * measured.top1:.2f}%\n"
    )


def test_results_are_the_networks_logits(done: Path, vit: Path) -> None:
    record = np.fromfile(done / "preprocess_Result" / "img_data" / "vit_base_cifar10_1_3.bin", "<f4")
    wanted = open_bundle(vit).logits(record.reshape(1, 3, 40, 40))
    assert (done / "result_Files" / "vit_base_cifar10_1_3_0.bin").read_bytes() == wanted.astype("<f4").tobytes()


def test_the_three_steps_alone_give_the_same(tmp_path: Path, done: Path, vit: Path, cifar: Path) -> None:
    packed, results = str(tmp_path / "packed"), str(tmp_path / "result_Files")
    assert run(["offline", "pack", str(cifar), packed, "--dataset", "cifar10", "--model", str(vit)]) == 0
    assert contents(tmp_path / "packed") == contents(done / "preprocess_Result")
    assert run(["offline", "infer", str(vit), packed, str(tmp_path), "--dataset", "cifar10"]) == 0
    assert contents(tmp_path / "result_Files") == contents(done / "result_Files")
    for labels in (packed, f"{packed}/label"):
        assert run(["offline", "score", results, labels, "--out", str(tmp_path / "a.log")]) == 0
        assert (tmp_path / "a.log").read_bytes() == (done / "acc.log").read_bytes()


def test_records_of_others_are_read_without_a_manifest(tmp_path: Path, done: Path, vit: Path) -> None:
    shutil.copytree(done / "preprocess_Result", tmp_path / "theirs")
    (tmp_path / "theirs" / "pack.json").unlink()
    words = ["offline", "infer", str(vit), str(tmp_path / "theirs" / "img_data"), str(tmp_path), "--dataset", "cifar10"]
    assert run(words) == 0
    assert contents(tmp_path / "result_Files") == contents(done / "result_Files")


def test_the_packages_words_are_printed(
    tmp_path: Path, vit: Path, cifar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(cifar), str(tmp_path / "packed"), "--dataset", "cifar10", "--model", str(vit)]
    assert run(["offline", "pack", *words]) == 0
    assert capsys.readouterr().out == f"{'=' * 20} export bin files finished {'=' * 20}\n"
    assert run(["offline", "run", str(vit), str(cifar), str(tmp_path / "all"), "--dataset", "cifar10"]) == 0
    time, score = capsys.readouterr().out.splitlines()
    assert TIME.fullmatch(time + "\n") and f"{score}\n" == (tmp_path / "all" / "acc.log").read_text()


# ---- the CCT package


@pytest.mark.parametrize("layout", ["folders", "flat"])
def test_pictures_as_they_are_with_a_table_of_labels(
    tmp_path: Path, cct: Path, synsets: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, words = synsets, []
    if layout == "flat":
        data = made.flat(tmp_path / "flat", synsets)
        (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in made.SYNSETS))
        words = [f"data.classes={tmp_path / 'names.txt'}"]
    out = tmp_path / "out"
    assert run(["offline", "run", str(cct), str(data), str(out), *words, "--dataset", "imagenet2012", "--json"]) == 0
    table = json.loads((out / "preprocess_Result" / "imagenet_label.json").read_text())
    assert table == {path.name: made.SYNSETS.index(path.parent.name) for path in synsets.rglob("*.JPEG")}
    assert len(list((out / "result_Files").iterdir())) == len(table) == 18
    assert (out / "result_Files" / "ILSVRC2012_val_00000007_0.bin").stat().st_size == 4 * 3
    logged = (out / "acc.log").read_text()
    assert logged == made.acc_log_of_cct(out / "result_Files", out / "preprocess_Result" / "imagenet_label.json")
    measured = evaluate(cct, synsets, batch=1).evaluation
    assert logged == f"Top1 acc:  {measured.top1}\nTop5 acc:  {measured.top5}\n"
    values = json.loads(capsys.readouterr().out)
    assert (values["correct"], values["top1_interval"]) == (measured.correct, list(measured.interval))


def test_another_policy_is_said_in_words(tmp_path: Path, cct: Path, synsets: Path) -> None:
    words = [str(cct), str(synsets), "policy.mode=crop", "--dataset", "imagenet2012"]
    assert run(["offline", "infer", *words[:2], str(tmp_path / "crop"), *words[2:]]) == 0
    assert run(["offline", "infer", *words[:2], str(tmp_path / "own"), *words[3:]]) == 0
    crop, own = (contents(tmp_path / name / "result_Files") for name in ("crop", "own"))
    assert set(crop) == set(own) and crop != own


def test_labels_are_numbered_by_the_model_where_it_orders_its_classes_otherwise(
    tmp_path: Path, synsets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = Policy(size=(32, 32), mean=made.THEIRS.mean, std=made.THEIRS.std)
    model = export(made.classifier(made.SYNSETS[::-1], policy), tmp_path / "model", pictures=()).folder
    words = [str(model), str(synsets)]
    assert run(["offline", "run", *words, str(tmp_path / "out"), "--dataset", "imagenet2012"]) == 0
    table = json.loads((tmp_path / "out" / "preprocess_Result" / "imagenet_label.json").read_text())
    assert {name: made.SYNSETS[2 - label] for name, label in table.items()} == {
        path.name: path.parent.name for path in synsets.rglob("*.JPEG")
    }
    correct = evaluate(model, synsets, batch=1).evaluation.correct
    assert (tmp_path / "out" / "acc.log").read_text().startswith(f"Top1 acc:  {correct / 18}\n")
    capsys.readouterr()
    assert run(["offline", "infer", *words, str(tmp_path / "alone"), "--dataset", "imagenet2012"]) == 0
    assert "labels put into the model's class order by name (another order alone)" in capsys.readouterr().err


def test_imagenet_packs_labels_alone(tmp_path: Path, synsets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "packed")
    assert run(["offline", "pack", str(synsets), out, *POLICY, "--dataset", "imagenet2012"]) == 2
    assert "imagenet2012 packs labels alone" in capsys.readouterr().err
    assert run(["offline", "pack", str(synsets), out, "--dataset", "imagenet2012"]) == 0
    assert capsys.readouterr().out == "[INFO] Completed! Total 18 data.\n"
    assert set(contents(tmp_path / "packed")) == {"imagenet_label.json", "pack.json"}


# ---- stopped in the middle

KILLED = """
import os, sys
from pathlib import Path
{where}
real, calls = owner.{name}, []
def dying(*args, **words):
    calls.append(1)
    if len(calls) == {number}:
        os.kill(os.getpid(), 9)
    return real(*args, **words)
owner.{name} = dying
from vitrail.cli import run
sys.exit(run({words!r}))
"""
PLACES = {
    "pack": ("from pathlib import Path as owner", "write_bytes", 41),
    "answers": ("from vitrail.engines.opened import Bundle as owner", "logits", 30),
    "score": ("import vitrail.evaluation.metrics as owner", "ranks", 1),
}


@pytest.mark.parametrize("step", PLACES)
def test_a_kill_leaves_nothing_that_looks_finished(
    tmp_path: Path, vit: Path, cifar: Path, done: Path, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where, name, number = PLACES[step]
    words = ["offline", "run", str(vit), str(cifar), str(tmp_path / "out"), "--dataset", "cifar10"]
    code = KILLED.format(where=where, name=name, number=number, words=words)
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120).returncode == -9
    left = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    whole = {"pack": set(), "answers": {"preprocess_Result", "time_Result"}}
    whole["score"] = {*whole["answers"], "result_Files", "infer.log"}
    assert left == whole[step]
    if step == "answers":
        assert list((tmp_path / "out" / "time_Result").iterdir()) == []
    assert run(words) == 0
    assert ("are packed in" in capsys.readouterr().err) == (step != "pack")
    for folder in ("preprocess_Result", "result_Files"):
        assert contents(tmp_path / "out" / folder) == contents(done / folder)
    assert not list((tmp_path / "out").glob(".aside-*"))


def test_a_finished_run_and_foreign_folders_are_refused(
    tmp_path: Path, done: Path, vit: Path, cct: Path, cifar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(vit), str(cifar)]
    before = contents(done)
    assert run(["offline", "run", *words, str(done), "--dataset", "cifar10"]) == 2
    assert "error[V006]" in (err := capsys.readouterr().err) and "finished run" in err
    (tmp_path / "mine" / "result_Files").mkdir(parents=True)
    (tmp_path / "mine" / "result_Files" / "thesis.txt").write_text("mine")
    for verb in ("run", "infer"):
        data = str(done / "preprocess_Result") if verb == "infer" else str(cifar)
        assert run(["offline", verb, str(vit), data, str(tmp_path / "mine"), "--dataset", "cifar10"]) == 2
        assert "error[V006]" in capsys.readouterr().err
    assert (tmp_path / "mine" / "result_Files" / "thesis.txt").read_text() == "mine"
    words = [str(cifar), str(done / "preprocess_Result"), "--dataset", "cifar10", "--model", str(vit)]
    assert run(["offline", "pack", *words]) == 2
    assert contents(done) == before
