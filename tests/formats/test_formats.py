"""Which format a file is, by its content; and reading any of them by one call."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail.disk import sha256_file
from vitrail.errors import UsageError, VitrailError, WeightsError
from vitrail.formats import kinds, read_tensors, safetensors, sniff
from vitrail.formats.stored import Stored

ONE = {"w": Stored("U8", (1,), b"x")}
EXPECTED = {
    ".safetensors": "safetensors", ".pth": "torch_zip", ".npz": "npz", ".h5": "hdf5", ".ckpt": "mindspore",
    ".index": "tensorflow", ".json": "json", "": "text",
}  # fmt: skip


def zipped(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return target.getvalue()


def test_real_files_are_told_apart(shared: Path) -> None:
    seen = set()
    for path in sorted((shared / "reference" / "files").rglob("*")):
        if path.is_file() and path.suffix in EXPECTED:
            assert sniff(path) == EXPECTED[path.suffix], path.name
            seen.add(path.suffix)
    assert seen == set(EXPECTED)


def test_every_real_file_and_folder_is_read(shared: Path) -> None:
    """Names and shapes; the values are held against the vectors by each reader's own test."""
    places = [
        path for path in sorted((shared / "reference" / "files").iterdir()) if path.is_dir() or path.suffix in EXPECTED
    ]
    assert len(places) >= 30
    for path in places:
        tensors, _, _ = read_tensors(path)
        assert tensors, path.name


def test_content_wins_over_the_name(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3.0)}, tmp_path / "x.safetensors")
    safetensors.write(tmp_path / "x.pth", ONE, {"by": "hand"})
    assert sniff(tmp_path / "x.safetensors") == "torch_zip"
    assert read_tensors(tmp_path / "x.safetensors")[0]["w"].array().tolist() == [0, 1, 2]
    assert read_tensors(tmp_path / "x.pth") == (ONE, {"by": "hand"}, [])
    np.savez(tmp_path / "x.npz", w=np.array([120], np.uint8))
    (tmp_path / "x.npz").rename(tmp_path / "x.ckpt")
    assert read_tensors(tmp_path / "x.ckpt")[0] == ONE


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 346293852\n"
NOT_WEIGHTS: dict[str, tuple[bytes, str, str]] = {
    # name -> (bytes, kind, word of the refusal or of its hint)
    "empty": (b"", "empty", "empty"),
    "Git LFS pointer": (LFS, "lfs_pointer", "git lfs pull"),
    "HTML": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "html", "web page"),
    "HTML after blanks": (b"\n\n  <HTML lang=en>", "html", "web page"),
    "HTML after a mark": (b"\xef\xbb\xbf<!doctype html>", "html", "web page"),
    "XML of a bucket": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "html", "download"),
    "JSON": (b'{"error": "not found"}', "json", "weights"),
    "JSON list": (b"[1, 2]", "json", "weights"),
    "text": (b"Entry not found", "text", "download"),
    "text of UTF-8": ("größe ".encode() * 2000, "text", "download"),
    "gzip": (b"\x1f\x8b\x08" + bytes(40), "compressed", "unpack"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(40), "compressed", "unpack"),
    "zip of a pth": (zipped("cct_7_3x1.pth"), "zip", "cct_7_3x1.pth"),
    "torch.export": (zipped("a/archive_format", "a/models/model.json"), "torch_export", "torch.export"),
    "tar": (b"x".ljust(257, b"\0") + b"ustar\x0000" + bytes(700), "torch_tar", "unpack"),
    "pickle": (b"\x80\x04\x95\x05\0\0\0\0\0\0\0]\x94K\x01a.", "pickle", "not run"),
    "picture": (b"\xff\xd8\xff\xe0" + bytes(500), "unknown", "safetensors"),
    "zeros": (bytes(5000), "unknown", "safetensors"),
    "junk": (bytes(range(256)) * 4, "unknown", "safetensors"),
}


@pytest.mark.parametrize("name", NOT_WEIGHTS)
def test_V206_what_is_no_weight_file_is_named(name: str, tmp_path: Path) -> None:
    data, kind, word = NOT_WEIGHTS[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    assert sniff(path) == kind
    with pytest.raises(WeightsError) as caught:
        read_tensors(path)
    assert caught.value.code == "V206"
    assert word in str(caught.value) and f"{len(data)} bytes" in str(caught.value)


def test_every_refused_kind_has_a_file_here() -> None:
    assert {kind for _, kind, _ in NOT_WEIGHTS.values()} == set(kinds.REFUSED)


def test_V202_a_scripted_module_is_a_program(tmp_path: Path) -> None:
    for names in (("a/data.pkl", "a/constants.pkl", "a/code/x.py"), ("a/constants.pkl", "a/code/x.py")):
        (tmp_path / "x.pt").write_bytes(zipped(*names))
        assert sniff(tmp_path / "x.pt") == "torchscript"
        with pytest.raises(WeightsError) as caught:
            read_tensors(tmp_path / "x.pt")
        assert caught.value.code in ("V201", "V202")


def test_the_data_of_a_tensorflow_checkpoint_names_its_index(tmp_path: Path) -> None:
    (tmp_path / "model.data-00000-of-00001").write_bytes(bytes(range(200, 256)))
    with pytest.raises(WeightsError, match="no format") as caught:
        read_tensors(tmp_path / "model.data-00000-of-00001")
    assert ".index" in caught.value.hint


@pytest.mark.parametrize("make", ["torch_zip", "torch_legacy", "npz", "safetensors", "junk"])
def test_C10_the_hash_is_checked_for_every_format(make: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    if make == "npz":
        with path.open("wb") as file:
            np.savez(file, w=np.arange(3.0))
    elif make == "safetensors":
        safetensors.write(path, ONE)
    elif make == "junk":
        path.write_bytes(b"junk")
    else:
        torch.save({"w": torch.arange(3.0)}, path, _use_new_zipfile_serialization=make == "torch_zip")
    if make != "junk":
        assert "w" in read_tensors(path, sha256_file(path))[0]
        assert "w" in read_tensors(path, sha256_file(path).upper())[0]
    monkeypatch.setattr(kinds, "kind_of", lambda file: pytest.fail("parsed before it was hashed"))
    with pytest.raises(WeightsError, match="SHA-256 differs") as caught:
        read_tensors(path, "0" * 64)
    assert caught.value.code == "V201"


def test_a_link_at_the_top_is_followed(tmp_path: Path) -> None:
    safetensors.write(tmp_path / "blob", ONE)
    (tmp_path / "model.safetensors").symlink_to("blob")
    assert read_tensors(tmp_path / "model.safetensors")[0] == ONE
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.safetensors").symlink_to("../blob")
    assert read_tensors(tmp_path / "folder")[0] == ONE


def write_torch(path: Path) -> None:
    torch.save({"w": torch.arange(3.0)}, path)


def write_safetensors(path: Path) -> None:
    safetensors.write(path, ONE)


def write_index(path: Path) -> None:
    shard = path.name.partition(".")[0] + ("-1.bin" if ".bin" in path.name else "-1.safetensors")
    (write_torch if ".bin" in path.name else write_safetensors)(path.with_name(shard))
    path.write_text(f'{{"metadata": {{}}, "weight_map": {{"w": "{shard}"}}}}')


WRITERS: dict[str, Callable[[Path], None]] = {
    "model.safetensors": write_safetensors,
    "model.safetensors.index.json": write_index,
    "pytorch_model.bin": write_torch,
    "pytorch_model.bin.index.json": write_index,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_of_a_model_hub(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    (tmp_path / "config.json").write_text("{}")
    tensors, _, notes = read_tensors(tmp_path)
    assert list(tensors) == ["w"] and notes == []


def test_safetensors_win_in_a_folder(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name)
    tensors, _, notes = read_tensors(tmp_path)
    assert tensors == ONE
    assert notes == [f"passed over `{name}`: `model.safetensors` wins" for name in list(WRITERS)[1:]]


@pytest.mark.parametrize("names", [[], ["a.txt", "b"], [f"{i:02d}.pth" for i in range(30)]])
def test_V206_a_folder_without_weights_says_what_lies_there(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(WeightsError, match="holds no weights") as caught:
        read_tensors(tmp_path)
    assert caught.value.code == "V206" and "model.safetensors" in caught.value.hint
    assert len(caught.value.evidence) <= 11
    assert all(name in caught.value.evidence for name in names[:10])


def test_a_tensorflow_checkpoint_by_folder_prefix_and_index(shared: Path) -> None:
    folder = shared / "reference" / "files" / "keras2_vit_tiny_tfckpt"
    by_folder = read_tensors(folder)
    assert len(by_folder[0]) > 10
    assert read_tensors(folder / "model") == by_folder
    assert read_tensors(folder / "model.index") == by_folder


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('model_checkpoint_path: "/etc/model"\n', "V202"),
        ('model_checkpoint_path: "../model"\n', "V202"),
        ('model_checkpoint_path: "a/model"\n', "V202"),
        ('model_checkpoint_path: "a\\\\model"\n', "V202"),
        ('model_checkpoint_path: ".."\n', "V202"),
        ('model_checkpoint_path: ""\n', "V202"),
        ('model_checkpoint_path: "a\tb"\n', "V202"),
        ("model_checkpoint_path: model\n", "V201"),
        ("", "V201"),
        ('model_checkpoint_path: "absent"\n', "V702"),
    ],
)
def test_C09_a_tensorflow_folder_names_only_what_lies_in_it(text: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text(text)
    with pytest.raises(VitrailError) as caught:
        read_tensors(tmp_path)
    assert caught.value.code == code


def test_V007_several_files_have_no_one_hash(tmp_path: Path) -> None:
    write_index(tmp_path / "model.safetensors.index.json")
    for path in (tmp_path, tmp_path / "model.safetensors.index.json"):
        with pytest.raises(UsageError, match="no one SHA-256"):
            read_tensors(path, sha256_file(tmp_path / "model.safetensors.index.json"))


def test_V007_a_key_that_nothing_needs(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x")
    with pytest.raises(UsageError, match="takes no key"):
        read_tensors(tmp_path / "x", key=b"0" * 16)


@pytest.mark.parametrize("name", ["absent.pth", "x" * 300, "a\0b", "\udc80\ud800", "file/below"])
def test_nothing_there(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VitrailError) as caught:
        read_tensors(tmp_path / name)
    assert caught.value.code == "V702"


def test_zips_are_told_apart_by_their_members(tmp_path: Path) -> None:
    for names, kind in (
        (("metadata.json", "config.json", "model.weights.h5"), "keras_zip"),
        (("a.npy", "b/c.npy"), "npz"),
        (("archive/data.pkl", "archive/version"), "torch_zip"),
        (("a.npy", "b"), "zip"),
    ):
        (tmp_path / "x").write_bytes(zipped(*names))
        assert sniff(tmp_path / "x") == kind
