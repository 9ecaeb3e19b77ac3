from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest

from tests.bundle import tiny
from vitrail import disk
from vitrail.bundle import write
from vitrail.bundle.manifest import NAME, WEIGHTS, Engine, Manifest
from vitrail.bundle.read import check
from vitrail.bundle.write import add_engine, write_bundle
from vitrail.errors import BundleError, UsageError, VitrailError

GRAPH = "engines/onnx-fp32/model.onnx"


def manifest() -> Manifest:
    return Manifest.from_json(tiny.bundle_files()[NAME])


def bare() -> Manifest:
    return dataclasses.replace(manifest(), files={}, engines={})


def engine_files() -> dict[str, bytes]:
    return {name: data for name, data in tiny.bundle_files().items() if name not in (NAME, WEIGHTS)}


def weights_only(folder: Path) -> Path:
    write_bundle(folder, bare(), {WEIGHTS: tiny.bundle_files()[WEIGHTS]})
    return folder


def add(folder: Path, **changes: object) -> Manifest:
    given = {
        "engine": manifest().engines["onnx-fp32"],
        "files": engine_files(),
        "described": bare(),
    }
    return add_engine(folder, "onnx-fp32", **{**given, **changes})  # type: ignore[arg-type]


def test_content_may_be_bytes_or_a_function(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", bare(), {"a": b"bytes", "sub/b": lambda file: file.write(b"by hand")})
    with check(tmp_path / "b") as opened:
        assert [opened.read(name) for name in ("a", "sub/b")] == [b"bytes", b"by hand"]


def test_a_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UsageError) as caught:
        write_bundle(tmp_path, bare(), {})
    assert caught.value.code == "V006"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_bundle_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(file: io.BufferedWriter) -> None:
        file.write(b"half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_bundle(tmp_path / "b", bare(), {"a": b"whole", "z": fail})  # type: ignore[dict-item]
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "b", dataclasses.replace(bare(), classes=("x",)), {})
    assert list(tmp_path.iterdir()) == []


def test_C15_a_bundle_made_twice_is_byte_equal(tmp_path: Path) -> None:
    for name in ("one", "two"):
        weights_only(tmp_path / name)
        add(tmp_path / name)
    assert tiny.contents(tmp_path / "one") == tiny.contents(tmp_path / "two") == tiny.bundle_files()


def test_an_engine_is_added_once(tmp_path: Path) -> None:
    weights_only(tmp_path / "b")
    first = add(tmp_path / "b")
    state = {path: path.stat().st_mtime_ns for path in (tmp_path / "b").rglob("*")}
    assert add(tmp_path / "b").digest == first.digest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "b").rglob("*")} == state


def test_V506_other_weights_and_other_bytes_are_refused(tmp_path: Path) -> None:
    folder = tiny.bundle(tmp_path)
    other_facts = dataclasses.replace(manifest().engines["onnx-fp32"], opset=19)
    for changes in (
        {"described": dataclasses.replace(bare(), weights_sha256="0" * 64)},
        {"files": {**engine_files(), GRAPH: b"other"}},
        {"engine": other_facts},
    ):
        with pytest.raises(BundleError) as caught:
            add(folder, **changes)
        assert caught.value.code == "V506"
    assert tiny.contents(folder) == tiny.bundle_files()


def test_no_listed_file_is_ever_replaced(tmp_path: Path) -> None:
    folder = tiny.bundle(tmp_path)
    engine = dataclasses.replace(manifest().engines["onnx-fp32"], file=GRAPH)
    with pytest.raises(BundleError) as caught:
        add_engine(folder, "other-fp32", engine=engine, files={GRAPH: b"new"}, described=bare())
    assert caught.value.code == "V506"
    assert tiny.contents(folder) == tiny.bundle_files()


@pytest.mark.parametrize("stop", range(4))
def test_a_stop_at_any_file_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    folder = weights_only(tmp_path / "b")
    honest, calls = disk.write_file, []

    def killed(path: Path, data: object) -> None:
        calls.append(path)
        if len(calls) > stop:
            raise KeyboardInterrupt
        honest(path, data)  # type: ignore[arg-type]

    monkeypatch.setattr(write.disk, "write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        add(folder)
    monkeypatch.undo()
    with check(folder) as opened:
        assert opened.manifest.engines == {}
    add(folder)
    assert tiny.contents(folder) == tiny.bundle_files()


def test_leftovers_are_removed_and_users_files_kept(tmp_path: Path) -> None:
    folder = weights_only(tmp_path / "b")
    (folder / "engines" / "old").mkdir(parents=True)
    (folder / "engines" / "old" / "left.onnx").write_bytes(b"x")
    (folder / "README.md").write_text("mine")
    add(folder)
    assert tiny.contents(folder) == {**tiny.bundle_files(), "README.md": b"mine"}


def test_C9_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    folder = weights_only(tmp_path / "b")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("x")
    (folder / "engines").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VitrailError):
        add(folder)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["precious"]


def test_an_engine_entry_is_plain_values() -> None:
    assert isinstance(manifest().engines["onnx-fp32"], Engine)
    assert write.tools(("numpy", "no-such-thing"))["no-such-thing"] == "absent"
