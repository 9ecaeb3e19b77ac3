"""What is missing, short, doubled, foreign or broken is refused by its name, and nothing is written."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.offline import made
from vitrail import disk
from vitrail.cli import run
from vitrail.errors import SystemFault
from vitrail.offline.score import score

FIRST, LAST = "vit_base_cifar10_1_0_0.bin", "vit_base_cifar10_1_9_0.bin"
Broken = Callable[[Path, Path], object]  # of the result files and the packed folder


@pytest.fixture
def copied(tmp_path: Path, done: Path) -> tuple[Path, Path]:
    for name in ("result_Files", "preprocess_Result"):
        shutil.copytree(done / name, tmp_path / name)
    return tmp_path / "result_Files", tmp_path / "preprocess_Result"


def _label(number: int) -> Broken:
    return lambda results, packed: (packed / "label" / "vit_base_cifar10_1_0.bin").write_bytes(
        struct.pack("<i", number)
    )


RESULTS: dict[str, tuple[Broken, int, str]] = {
    "missing": (lambda results, packed: (results / FIRST).unlink(), 2, f"missing: {FIRST}"),
    "short": (lambda results, packed: (results / FIRST).write_bytes(bytes(36)), 2, f"{FIRST}: 36 bytes"),
    "empty": (lambda results, packed: (results / FIRST).write_bytes(b""), 2, f"{FIRST}: 0 bytes"),
    "long": (lambda results, packed: (results / FIRST).write_bytes(bytes(41)), 2, f"{FIRST}: 41 bytes"),
    "extra": (lambda results, packed: shutil.copy(results / FIRST, results / "other_0.bin"), 2, "other_0.bin"),
    "second output": (
        lambda results, packed: shutil.copy(results / FIRST, results / "vit_base_cifar10_1_0_1.bin"), 2, "_0_1.bin",
    ),
    "NaN": (lambda results, packed: np.full(10, np.nan, "<f4").tofile(results / LAST), 6, f"broken: {LAST}"),
    "one Inf": (lambda results, packed: np.array([np.inf, *range(9)], "<f4").tofile(results / LAST), 6, LAST),
    "link": (lambda results, packed: (results / "x").symlink_to(results / FIRST), 2, "x` is no regular file"),
    "folder": (lambda results, packed: (results / "x").mkdir(), 2, "x` is no regular file"),
    "pipe": (lambda results, packed: os.mkfifo(results / "x"), 2, "x` is no regular file"),
    "no results": (lambda results, packed: [path.unlink() for path in results.iterdir()], 2, "no results"),
    "no folder": (lambda results, packed: shutil.rmtree(results), 4, "error[V702]"),
    "label beyond": (_label(10), 2, "label outside 0 to 9"),
    "label below": (_label(-1), 2, "label outside 0 to 9"),
    "short label": (
        lambda results, packed: (packed / "label" / "vit_base_cifar10_1_0.bin").write_bytes(b"\1"), 2, "1 bytes",
    ),
    "fewer labels": (
        lambda results, packed: [
            path.unlink() for path in (packed / "label" / "vit_base_cifar10_1_0.bin", results / FIRST)
        ],
        2, "49 labels, 50 were packed",
    ),
    "manifest": (lambda results, packed: (packed / "pack.json").write_text("{"), 2, "pack.json` is damaged"),
    "newer": (
        lambda results, packed: (packed / "pack.json").write_text(
            (packed / "pack.json").read_text().replace('"1.0"', '"2.0"')
        ), 2, "its format is '2.0'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RESULTS)
def test_results_that_do_not_stand(
    copied: tuple[Path, Path], tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks, code, said = RESULTS[case]
    breaks(*copied)
    assert run(["offline", "score", *map(str, copied)]) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error[V") and said in err
    assert not (tmp_path / "acc.log").exists()


TABLES = {
    "not JSON": b"{", "a list": b"[1]", "a text": b'{"a.JPEG": "1"}', "empty": b"{}", "twice": b'{"a":1,"a":2}',
    "NaN": b'{"a.JPEG": NaN}', "true": b'{"a.JPEG": true}', "one result": b'{"a.JPEG": 1, "a.png": 1}',
    "deep": b"[" * 100_000, "path": b'{"../a.JPEG": 1}', "outside": b'{"a.JPEG": 3}', "huge": b'{"a.JPEG": 1e400}',
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_tables_of_labels_that_do_not_stand(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "result_Files").mkdir()
    (tmp_path / "result_Files" / "a_0.bin").write_bytes(bytes(12))
    (tmp_path / "imagenet_label.json").write_bytes(TABLES[case])
    assert run(["offline", "score", str(tmp_path / "result_Files"), str(tmp_path / "imagenet_label.json")]) == 2
    assert "error[V404]" in capsys.readouterr().err
    assert not (tmp_path / "acc.log").exists()


RECORDS: dict[str, tuple[Broken, str]] = {
    "short": (lambda images, packed: (images / "vit_base_cifar10_1_7.bin").write_bytes(b"123"), "1_7.bin: 3 bytes"),
    "stray": (lambda images, packed: (images / "notes.txt").write_text("mine"), "notes.txt: 4 bytes"),
    "doubled": (
        lambda images, packed: shutil.copy(images / "vit_base_cifar10_1_7.bin", images / "vit_base_cifar10_1_7.raw"),
        "two files",
    ),
    "none": (lambda images, packed: [path.unlink() for path in images.iterdir()], "no records"),
    "other classes": (
        lambda images, packed: (packed / "pack.json").write_text(
            (packed / "pack.json").read_text().replace('"airplane",\n  "automobile"', '"automobile",\n  "airplane"')
        ),
        "in another order",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RECORDS)
def test_records_that_do_not_stand(
    copied: tuple[Path, Path], tmp_path: Path, vit: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks, said = RECORDS[case]
    breaks(copied[1] / "img_data", copied[1])
    out = tmp_path / "out"
    assert run(["offline", "infer", str(vit), str(copied[1]), str(out), "--dataset", "cifar10"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error[V4") and said in err
    assert not (out / "result_Files").exists()


def test_records_of_another_policy_are_refused(
    copied: tuple[Path, Path], tmp_path: Path, vit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(vit), str(copied[1]), str(tmp_path / "out"), "policy.mean=[0.5,0.5,0.5]", "--dataset", "cifar10"]
    assert run(["offline", "infer", *words]) == 2
    assert "mean: [0.4914, 0.4822, 0.4465] packed, [0.5, 0.5, 0.5] wanted" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_record_of_nan_is_named_with_code_6(
    engine: str, copied: tuple[Path, Path], tmp_path: Path, vit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the engine would make of it."""
    np.full(3 * 40 * 40, np.nan, "<f4").tofile(copied[1] / "img_data" / "vit_base_cifar10_1_7.bin")
    out = tmp_path / "out"
    assert (
        run(["offline", "infer", str(vit), str(copied[1]), str(out), "--dataset", "cifar10", "--engine", engine]) == 6
    )
    assert "vit_base_cifar10_1_7.bin` are NaN or Inf" in capsys.readouterr().err
    assert not (out / "result_Files").exists() and not list((out / "time_Result").iterdir())
    assert "error[V811]" in (out / "infer.log").read_text()


def test_the_first_failing_step_ends_a_run_and_is_named(
    tmp_path: Path, cct: Path, vit: Path, synsets: Path, cifar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(synsets, tmp_path / "data")
    broken = next((tmp_path / "data").rglob("*_00000009.JPEG"))
    broken.write_bytes(broken.read_bytes()[:300])
    out = tmp_path / "out"
    assert run(["offline", "run", str(cct), str(tmp_path / "data"), str(out), "--dataset", "imagenet2012"]) == 2
    err = capsys.readouterr().err
    assert "execute inference failed\nerror[V406]" in err and "_00000009.JPEG" in err
    assert not (out / "result_Files").exists() and not (out / "acc.log").exists()
    assert "error[V406]" in (out / "infer.log").read_text()
    words = [str(cct), str(tmp_path / "data"), str(tmp_path / "packs"), "--dataset", "cifar10"]
    assert run(["offline", "run", *words]) == 2
    assert "preprocess dataset failed\nerror[V406]" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "packs").iterdir()] == [".lock"]


def test_two_pictures_of_one_name_are_refused(tmp_path: Path, cct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = made.synsets(tmp_path / "data", each=1)
    name = next((data / made.SYNSETS[0]).iterdir()).name
    shutil.copy(data / made.SYNSETS[0] / name, data / made.SYNSETS[1] / name.replace(".JPEG", ".v2.jpg"))
    assert run(["offline", "run", str(cct), str(data), str(tmp_path / "out"), "--dataset", "imagenet2012"]) == 2
    err = capsys.readouterr().err
    assert "preprocess dataset failed" in err and "error[V404]: two files" in err and ".v2.jpg" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset", "mnist"], "error[V001]"), ([], "error[V001]"),
        (["--dataset", "cifar10"], "policy.size, policy.mean, policy.std not said"),
        (["--dataset", "cifar10", "policy.size=[8,8]", "policy.mean=[0.5]", "policy.std=[0]"], "does not stand"),
        (["--dataset", "cifar10", "--model", "cct_2_3x2_23"], "error[V002]"),
        (["--dataset", "cifar10", "policy.sise=[8,8]"], "error[V101]"),
    ],
)  # fmt: skip
def test_wrong_words(
    tmp_path: Path, cifar: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["offline", "pack", str(cifar), str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_random_weights_and_places_among_the_pictures(
    tmp_path: Path, cct: Path, synsets: Path, cifar: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["offline", "run", "cct_2_3x2_32", str(cifar), str(tmp_path / "out"), "--dataset", "cifar10"]) == 2
    assert "error[V005]" in capsys.readouterr().err
    for verb in ("run", "infer"):
        words = [str(cct), str(synsets), str(synsets / "out"), "--dataset", "imagenet2012"]
        assert run(["offline", verb, *words]) == 2
        assert "among the pictures" in capsys.readouterr().err
    assert not (synsets / "out").exists()


def test_a_disk_too_small_is_said_before_the_first_file(
    tmp_path: Path, cifar: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vitrail.offline.pack.free_space", lambda path: 1_000_000)
    words = ["policy.size=[224,224]", "policy.mean=[0,0,0]", "policy.std=[1,1,1]", "--dataset", "cifar10"]
    assert run(["offline", "pack", str(cifar), str(tmp_path / "out"), *words]) == 4
    assert "would take 0.03 GB, 0.00 GB are free" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_more_labels_than_scoring_reads_are_not_packed(
    tmp_path: Path, synsets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vitrail.formats.json.VALUES", 17)
    assert run(["offline", "pack", str(synsets), str(tmp_path / "out"), "--dataset", "imagenet2012"]) == 2
    assert "too many for one table: more than 17 values" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_disk_that_does_not_confirm_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, *args: object, **words: object) -> None: ...

        def syncfs(self, descriptor: int) -> int:
            assert os.path.isdir(f"/proc/self/fd/{descriptor}")
            return -1

    monkeypatch.setattr("ctypes.CDLL", Library)
    monkeypatch.setattr("ctypes.get_errno", lambda: 5)
    with pytest.raises(SystemFault, match="Input/output error"), disk.new_folder(tmp_path / "new", many=True) as folder:
        (folder / "a").write_text("a")
    assert list(tmp_path.iterdir()) == []


@given(
    logits=arrays(np.float32, (7, 6), elements=st.sampled_from([-1.0, 0.0, -0.0, 1.0, 2.5])),
    labels=st.lists(st.integers(0, 5), min_size=7, max_size=7),
)
def test_scores_are_the_packages_with_ties_too(
    tmp_path_factory: pytest.TempPathFactory, logits: np.ndarray, labels: list[int]
) -> None:
    place = tmp_path_factory.mktemp("score")
    (place / "result_Files").mkdir()
    for number, row in enumerate(logits):
        row.tofile(place / "result_Files" / f"p{number}_0.bin")
    (place / "t.json").write_text(json.dumps({f"p{number}.JPEG": label for number, label in enumerate(labels)}))
    found = "".join(f"{line}\n" for line in score(place / "result_Files", place / "t.json").lines())
    assert found == made.acc_log_of_cct(place / "result_Files", place / "t.json")
