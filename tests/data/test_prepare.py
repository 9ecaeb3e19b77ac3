"""`data prepare`: small archives of the published layouts become folders that open, also after any stop."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from tests.formats.archive_files import tar_of, walked
from tests.test_remote import Server
from tests.test_remote import server as server
from vitrail import remote
from vitrail.cli.main import run
from vitrail.data import imagenet
from vitrail.data.configs import Data
from vitrail.data.sources import open_source
from vitrail.errors import DataError, SystemFault, UsageError, WeightsError
from vitrail.verbs import data_prepare as verb
from vitrail.verbs.data_prepare import data_prepare

WNIDS = ("n01440764", "n01443537", "n01484850", "n01491361")
NUMBERS = (3, 1, 4, 2)  # of the devkit: not in the order of the synsets
PER_CLASS, VALIDATION = 5, 12


def jpeg(seed: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(out, "JPEG")
    return out.getvalue()


def meta(change: dict[str, Any] | None = None) -> bytes:
    fields = ("ILSVRC2012_ID", "WNID", "words", "num_children", "children", "num_train_images")
    records = np.zeros((len(WNIDS) + 1, 1), [(field, object) for field in fields])
    for row, (wnid, number) in enumerate(zip(WNIDS, NUMBERS, strict=True)):
        records[row, 0] = (float(number), wnid, "some, words", 0.0, np.zeros((0, 0)), np.uint16(PER_CLASS))
    records[-1, 0] = (5.0, "n00001740", "entity", 2.0, np.array([1.0, 2.0]), 0.0)
    for field, value in (change or {}).items():
        records[0, 0][field] = value
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"synsets": records}, do_compression=True)
    return stream.getvalue()


def truth(number: int) -> int:
    return NUMBERS[number % 4]


def archives(src: Path, *, change: dict[str, Any] | None = None) -> Path:
    """The three archives with 4 classes, 5 pictures to train on of each and 12 to validate."""
    src.mkdir()
    lines = "".join(f"{truth(i)}\n" for i in range(VALIDATION))
    kit = {
        "ILSVRC2012_devkit_t12/data/meta.mat": meta(change),
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": lines.encode(),
        "ILSVRC2012_devkit_t12/readme.txt": b"read me",
    }
    (src / imagenet.DEVKIT).write_bytes(gzip.compress(tar_of(kit)))
    val = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": jpeg(1000 + i) for i in range(VALIDATION)}
    (src / imagenet.VAL).write_bytes(tar_of(val))
    inner = {
        f"{w}.tar": tar_of({f"{w}_{i}.JPEG": jpeg(10 * c + i) for i in range(PER_CLASS)}) for c, w in enumerate(WNIDS)
    }
    (src / imagenet.TRAIN).write_bytes(tar_of(inner))
    return src


def expected() -> dict[str, bytes]:
    files = {f"train/{w}/{w}_{i}.JPEG": jpeg(10 * c + i) for c, w in enumerate(WNIDS) for i in range(PER_CLASS)}
    for i in range(VALIDATION):
        files[f"val/{WNIDS[NUMBERS.index(truth(i))]}/ILSVRC2012_val_{i + 1:08d}.JPEG"] = jpeg(1000 + i)
    return files


def made(dst: Path) -> dict[str, bytes]:
    return {path: data for path, data in walked(dst).items() if not path.startswith(".")}


def test_imagenet_from_its_archives(tmp_path: Path) -> None:
    done = data_prepare("imagenet", tmp_path / "dst", src=archives(tmp_path / "src"))
    assert made(tmp_path / "dst") == expected()
    assert done.notes[0] == "20 pictures to train on, 12 to validate, 4 classes"
    assert any("devkit" in note for note in done.notes)
    source = open_source(Data(root=str(tmp_path / "dst")))
    assert len(source.training) == 20 and len(source.held_out) == 12 and source.own_split
    again = data_prepare("imagenet", tmp_path / "dst", src=tmp_path / "src")
    assert "0 class folders made, 8 were there" in again.notes


def test_imagenet_without_the_training_archive(tmp_path: Path) -> None:
    (archives(tmp_path / "src") / imagenet.TRAIN).unlink()
    done = data_prepare("imagenet", tmp_path / "dst", src=tmp_path / "src")
    assert made(tmp_path / "dst") == {k: v for k, v in expected().items() if k.startswith("val/")}
    assert any(imagenet.TRAIN in note for note in done.notes)


KILLED = """
import os, signal, sys
from pathlib import Path
from vitrail import disk
from vitrail.data import imagenet
left = int(sys.argv[3])
def fsync(descriptor, real=os.fsync):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
os.fsync = fsync
imagenet.prepare(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("after", [3, 20, 50])
def test_imagenet_goes_on_after_a_kill(tmp_path: Path, after: int) -> None:
    src, dst = archives(tmp_path / "src"), tmp_path / "dst"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(src), str(dst), str(after)], timeout=60)
    assert killed.returncode == -9
    assert set(made(dst)) < set(expected()) or any(".aside-" in path for path in walked(dst))
    data_prepare("imagenet", dst, src=src)
    assert made(dst) == expected() and not any(".aside-" in path for path in walked(dst))


def _spoil(src: Path, kind: str) -> None:
    train, val = src / imagenet.TRAIN, src / imagenet.VAL
    inner = {f"{w}.tar": tar_of({f"{w}_{i}.JPEG": b"x" for i in range(PER_CLASS)}) for w in WNIDS}
    flat = {f"ILSVRC2012_val_{i + 1:08d}.JPEG": b"x" for i in range(VALIDATION)}
    match kind:
        case "a class is short":
            train.write_bytes(tar_of(inner | {f"{WNIDS[2]}.tar": tar_of({"a.JPEG": b"x"})}))
        case "a class is missing":
            train.write_bytes(tar_of({k: v for k, v in inner.items() if WNIDS[1] not in k}))
        case "an unknown class":
            train.write_bytes(tar_of(inner | {"n99999999.tar": tar_of({})}))
        case "a path that leads out":
            train.write_bytes(tar_of(inner | {f"{WNIDS[0]}.tar": tar_of({f"../{i}": b"x" for i in range(PER_CLASS)})}))
        case "a class cut off":
            train.write_bytes(tar_of(inner | {f"{WNIDS[0]}.tar": inner[f"{WNIDS[0]}.tar"][:700]}))
        case "a picture is missing":
            val.write_bytes(tar_of(dict(list(flat.items())[1:])))
        case "a picture too many":
            val.write_bytes(tar_of(flat | {"ILSVRC2012_val_00000013.JPEG": b"x"}))
        case "another name":
            val.write_bytes(tar_of(flat | {"cat.JPEG": b"x"}))
        case "val cut off":
            val.write_bytes(val.read_bytes()[:3000])
        case "no devkit":
            (src / imagenet.DEVKIT).unlink()
        case "a devkit of text":
            (src / imagenet.DEVKIT).write_bytes(gzip.compress(tar_of({"meta.mat": b"text", "readme": b""})))


BAD = (
    "a class is short", "a class is missing", "an unknown class", "a path that leads out", "a class cut off",
    "a picture is missing", "a picture too many", "another name", "val cut off", "no devkit", "a devkit of text",
)  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_imagenet_archives_that_do_not_stand(tmp_path: Path, kind: str) -> None:
    src = archives(tmp_path / "src")
    _spoil(src, kind)
    with pytest.raises(DataError) as caught:
        data_prepare("imagenet", tmp_path / "dst", src=src)
    assert caught.value.code in ("V401", "V404") and caught.value.hint and str(src) in caught.value.what
    assert sorted(entry.name for entry in tmp_path.iterdir()) in (["dst", "src"], ["src"])


@pytest.mark.parametrize(
    "change", [{"WNID": "n1"}, {"WNID": WNIDS[1]}, {"ILSVRC2012_ID": 1.0}, {"num_train_images": "x"}]
)
def test_a_devkit_that_does_not_stand(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"meta\.mat"):
        data_prepare("imagenet", tmp_path / "dst", src=archives(tmp_path / "src", change=change))


def test_a_class_folder_of_another_count_is_named(tmp_path: Path) -> None:
    data_prepare("imagenet", tmp_path / "dst", src=archives(tmp_path / "src"))
    (tmp_path / "dst" / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").unlink()
    with pytest.raises(DataError, match="holds 4 pictures") as caught:
        data_prepare("imagenet", tmp_path / "dst", src=tmp_path / "src")
    assert "remove this folder" in caught.value.hint


def batches() -> dict[str, bytes]:
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    files = {name: (bytes([0]) + bytes([number]) * 3072) * 10 for number, name in enumerate(names)}
    return {f"cifar-10-batches-bin/{name}": data for name, data in files.items()}


@pytest.fixture
def published(server: Server, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """CIFAR-10 as a server of our own publishes it."""
    data = gzip.compress(tar_of(batches()), mtime=0)
    server.files = {"cifar-10-binary.tar.gz": data}
    row = (f"{server.url}/cifar-10-binary.tar.gz", hashlib.md5(data).hexdigest(), 6)
    monkeypatch.setitem(verb.CIFAR, "cifar10", row)
    return data


def test_cifar_is_fetched_checked_and_opens(published: bytes, server: Server, tmp_path: Path) -> None:
    how = remote.How(loopback=True, tries=2, pause=0.0)
    for _ in range(2):
        data_prepare("cifar10", tmp_path / "cifar10", net=verb.Net(tmp_path / "cache", how))
    assert len(server.asked) == 1 and walked(tmp_path / "cifar10") == batches()
    source = open_source(Data(root=str(tmp_path / "cifar10")))
    assert len(source.training) == 50 and len(source.held_out) == 10


def test_cifar_fetched_by_hand(published: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(published)
    data_prepare("cifar10", tmp_path / "cifar10", src=tmp_path / "x.tar.gz")
    assert walked(tmp_path / "cifar10") == batches()
    (tmp_path / "x.tar.gz").write_bytes(published[:-1])
    with pytest.raises(WeightsError, match="is not the file"):
        data_prepare("cifar10", tmp_path / "other", src=tmp_path / "x.tar.gz")
    assert not (tmp_path / "other").exists()


def test_cifar_offline_is_clear(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(verb.CIFAR, "cifar10", ("http://127.0.0.1:9/cifar-10-binary.tar.gz", "0", 6))
    with pytest.raises(SystemFault) as caught:
        data_prepare("cifar10", tmp_path / "c", net=verb.Net(tmp_path, remote.How(loopback=True, tries=1, pause=0.0)))
    assert (
        caught.value.code == "V704" and "by hand" in caught.value.hint and "cifar-10-binary.tar.gz" in caught.value.hint
    )


def test_wrong_calls(tmp_path: Path) -> None:
    for arguments, code in (((("imagenet"),), "V007"), ((("nothing"),), "V007")):
        with pytest.raises(UsageError) as caught:
            data_prepare(*arguments, tmp_path / "dst")
        assert caught.value.code == code and caught.value.hint
    (tmp_path / "x.tar").write_bytes(tar_of({"a": b"1"}))
    with pytest.raises(UsageError, match="exists already"):
        data_prepare("archive", tmp_path, src=tmp_path / "x.tar")
    for what, src in (("archive", "gone.tar"), ("archive", ""), ("cifar10", "gone"), ("imagenet", "gone")):
        with pytest.raises(DataError, match="is no f") as wrong:
            data_prepare(what, tmp_path / "dst", src=tmp_path / src)
        assert wrong.value.code == "V402" and wrong.value.exit_code == 2 and not (tmp_path / "dst").exists()


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archives(tmp_path / "src")
    assert run(["data", "prepare", "imagenet", str(tmp_path / "src"), str(tmp_path / "dst"), "--json"]) == 0
    assert '"files": 32' in capsys.readouterr().out
    (tmp_path / "x.tar").write_bytes(tar_of({"a": b"1"}))
    assert run(["data", "prepare", "archive", str(tmp_path / "x.tar"), str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "a").read_bytes() == b"1"
    assert run(["data", "prepare", "archive", str(tmp_path / "out")]) == 2
