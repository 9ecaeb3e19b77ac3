"""Promises B15, B16, B18: files that change during a run, copies counted exactly, readers that hang or lack memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.data.configs import Augment, Data, NoCrop
from vitrail.data.kept import FRESH_NS
from vitrail.data.loader import TrainLoader, evaluation_batches
from vitrail.data.scan import find_bad, scan
from vitrail.data.sources import Source, open_source
from vitrail.errors import DataError, PictureError, SystemFault
from vitrail.pictures.policy import Policy
from vitrail.verbs.data_audit import data_audit

POLICY = Policy(size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
SHADES = {"dark": 40, "light": 200}


def shaded(root: Path, count: int = 12) -> Source:
    """Two classes that can be told by their brightness, so that a wrong label shows."""
    for name, shade in SHADES.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (8, 8), (shade + index, shade, shade)).save(root / name / f"{index}.png")
    return open_source(Data(root=str(root)))


def vanish(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replace_by_another(path: Path) -> None:
    other = sorted(path.parent.iterdir())[-1]
    (path.parent / ".aside").write_bytes(other.read_bytes())
    os.replace(path.parent / ".aside", path)


def replace_by_rubbish(path: Path) -> None:
    path.write_bytes(b"<html>")


def replace_by_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: list[Callable[[Path], None]] = [
    vanish, truncate, replace_by_another, replace_by_rubbish, replace_by_a_fifo, replace_by_a_folder,
]  # fmt: skip
SPOILING = {vanish, truncate, replace_by_rubbish, replace_by_a_fifo, replace_by_a_folder}


def changing(root: Path, change: Callable[[Path], None], moment: int, workers: int) -> None:
    """Three epochs (batches are made ahead) and an evaluation; a file changes at batch `moment` of the first."""
    source = shaded(root)
    data = Data(batch=4, workers=workers, on_bad="skip")
    loader = TrainLoader(source, POLICY, Augment(crop=NoCrop()), data, seed=moment)
    victim = int(source.training[moment % len(source.training)])
    batches = []
    for step, batch in enumerate(loader.iterate(0, 3 * loader.steps_per_epoch)):
        if step == moment % loader.steps_per_epoch:
            change(root / source.title(victim))
        batches.append(batch)
    for batch in batches:
        bright = batch.images.mean(axis=(1, 2, 3)) > 0
        assert (batch.labels == bright).all(), "a wrong label"
        assert len(batch.indices) + len(batch.bad) == 4
    told = {one.index for batch in batches for one in batch.bad}
    assert told == ({victim} if change in SPOILING else set())
    (seen,) = evaluation_batches(source, np.array([victim]), POLICY, batch=1, workers=workers)
    assert [one.name for one in seen.bad] == ([source.title(victim)] if change in SPOILING else [])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("change", CHANGES)
def test_B15_a_file_that_changes_is_a_bad_picture_or_another_never_a_wrong_label(
    change: Callable[[Path], None], workers: int, tmp_path: Path
) -> None:
    changing(tmp_path / "a", change, 3, workers)


@pytest.mark.prove
def test_B15_at_two_hundred_moments(tmp_path: Path) -> None:
    for moment in range(200):
        changing(tmp_path / str(moment), CHANGES[moment % len(CHANGES)], moment // len(CHANGES), moment % 3)


@pytest.mark.parametrize("change", CHANGES)
def test_B15_a_kept_look_is_not_trusted_after_a_change(change: Callable[[Path], None], tmp_path: Path) -> None:
    source = shaded(tmp_path / "a")
    aged(tmp_path / "a")
    kept = tmp_path / "kept"
    before = scan(source, workers=1, folder=kept)
    assert scan(source, workers=1, folder=kept) == before
    change(tmp_path / "a" / source.title(5))
    after = scan(source, workers=1, folder=kept)
    assert [i for i in range(len(before)) if before[i] != after[i]] == [5]
    assert after[5].good == (change not in SPOILING)


def aged(root: Path) -> None:
    """Files that were written long enough ago to be known again by their times."""
    for path in root.rglob("*.png"):
        past = path.stat().st_mtime_ns - 10 * FRESH_NS
        os.utime(path, ns=(past, past))


def test_B15_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `cp -p` does: what it cannot set is the time of the status change."""
    source = shaded(tmp_path / "a")
    aged(tmp_path / "a")
    monkeypatch.setattr("vitrail.data.kept.FRESH_NS", 0)
    path = tmp_path / "a" / source.title(0)
    before = scan(source, workers=1, folder=tmp_path / "kept")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(bytes(path.stat().st_size))
    os.utime(path, ns=times)
    after = scan(source, workers=1, folder=tmp_path / "kept")
    assert before[0].good and not after[0].good


def test_B15_a_second_scan_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shaded(tmp_path / "a")
    (tmp_path / "a" / source.title(3)).write_bytes(b"no picture")
    monkeypatch.setattr("vitrail.data.kept.FRESH_NS", 0)
    first = find_bad(source, workers=2, folder=tmp_path / "kept")
    monkeypatch.setattr("vitrail.data.looks.decode", None)
    again = find_bad(source, workers=2, folder=tmp_path / "kept")
    assert [(one.index, str(one.error)) for one in again] == [(one.index, str(one.error)) for one in first]
    assert [one.index for one in again] == [3]
    (tmp_path / "a").rename(tmp_path / "b")  # elsewhere, the same content: read, but not decoded
    moved = open_source(Data(root=str(tmp_path / "b")))
    assert [one.index for one in find_bad(moved, workers=2, folder=tmp_path / "kept")] == [3]


@pytest.mark.parametrize("damage", [b"", b"no database at all, but long enough to look", None])
def test_B15_a_damaged_cache_is_made_anew(damage: bytes | None, tmp_path: Path) -> None:
    source = shaded(tmp_path / "a")
    before = scan(source, workers=1, folder=tmp_path / "kept")
    path = tmp_path / "kept" / "looks.sqlite"
    data = path.read_bytes()
    path.write_bytes(data[:5000] + b"\xff" * 3000 + data[8000:] if damage is None else damage)
    assert scan(source, workers=1, folder=tmp_path / "kept") == before
    assert scan(source, workers=1, folder=tmp_path / "kept") == before


def test_B15_a_cache_that_cannot_be_kept_is_done_without(tmp_path: Path) -> None:
    source = shaded(tmp_path / "a")
    (tmp_path / "kept").write_text("a file where the folder would be")
    assert all(one.good for one in scan(source, workers=1, folder=tmp_path / "kept"))


def test_B16_copies_are_counted_exactly(tmp_path: Path) -> None:
    exact_counts(tmp_path, 600)


@pytest.mark.prove
def test_B16_copies_among_100000_files_are_counted_exactly(tmp_path: Path) -> None:
    exact_counts(tmp_path, 100_000)


def test_B16_the_same_folder_as_both_parts_is_refused_and_a_copy_of_it_is_one_leak(tmp_path: Path) -> None:
    shaded(tmp_path / "a")
    with pytest.raises(DataError, match="the same place"):
        data_audit(tmp_path / "a", val=tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    done = data_audit(tmp_path / "a", val=tmp_path / "b")
    found = done.of("leak")
    assert found is not None and len(found.rows) == 24 and found.what.startswith("24 held-out pictures")


def exact_counts(root: Path, total: int) -> None:
    """Files of which every tenth is a copy of the one before it, in turn within a part, across parts and labels."""
    rng = np.random.default_rng(0)
    leaks = doubles = conflicts = 0
    for part in ("train", "val"):
        for label in ("cat", "dog"):
            (root / part / label).mkdir(parents=True)
    for index in range(total):
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        pixels[0, 0] = list(index.to_bytes(3, "big"))
        image = Image.fromarray(pixels)
        path = root / "train" / "cat" / f"{index}.bmp"
        image.save(path)
        data = path.read_bytes()
        if index % 30 == 0:
            (root / "train" / "cat" / f"{index}-again.bmp").write_bytes(data)
            doubles += 1
        elif index % 30 == 10:
            (root / "val" / "cat" / f"{index}.bmp").write_bytes(data)
            leaks += 1
        elif index % 30 == 20:
            (root / "train" / "dog" / f"{index}.bmp").write_bytes(data)
            conflicts += 1
    Image.new("RGB", (4, 5), (1, 2, 3)).save(root / "val" / "dog" / "own.bmp")
    done = data_audit(root)
    counts = {kind: len(found.rows) if (found := done.of(kind)) else 0 for kind in ("leak", "duplicate", "conflict")}
    assert counts == {"leak": leaks, "duplicate": doubles, "conflict": conflicts}


def with_picture(source: Source, act: Callable[[int], object]) -> Source:
    """The source whose pictures are read through `act`."""

    def picture(index: int) -> Path:
        act(index)
        stored = source.picture(index)
        assert isinstance(stored, Path)
        return stored

    return replace(source, picture=picture)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("who", ["train", "evaluate", "scan"])
def test_B18_a_read_that_hangs_is_named_with_its_file(
    who: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, forever = shaded(tmp_path / "a"), threading.Event()
    victim = int(source.training[5])
    stuck = with_picture(source, lambda index: index != victim or forever.wait())
    monkeypatch.setattr("vitrail.data.scan.PATIENCE", 1.0)
    data = Data(batch=4, workers=workers, patience=1.0)
    ways: dict[str, Callable[[], object]] = {
        "train": lambda: list(TrainLoader(stuck, POLICY, Augment(crop=NoCrop()), data, 0).iterate(0, 5)),
        "evaluate": lambda: list(
            evaluation_batches(stuck, source.training, POLICY, batch=4, workers=workers, patience=1.0)
        ),
        "scan": lambda: scan(stuck, workers=workers, folder=tmp_path / "kept"),
    }
    try:
        with pytest.raises(SystemFault) as caught:
            ways[who]()
        assert caught.value.code == "V702" and any(source.title(victim) in line for line in caught.value.evidence)
    finally:
        forever.set()


def test_B18_a_hanging_thread_does_not_keep_the_process(tmp_path: Path) -> None:
    """Waiting for a read that never returns, or for its thread at the end, would need a kill."""
    shaded(tmp_path / "a")
    code = f"""
from dataclasses import replace
import threading
from vitrail.data.configs import Augment, Data
from vitrail.data.loader import TrainLoader
from vitrail.data.sources import open_source
from vitrail.errors import SystemFault
from vitrail.pictures.policy import Policy
source = open_source(Data(root={str(tmp_path / "a")!r}))
source = replace(source, picture=lambda index: threading.Event().wait())
policy = Policy(size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
try:
    list(TrainLoader(source, policy, Augment(), Data(batch=4, patience=0.3), 0).iterate(0, 1))
except SystemFault as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "has been read for" in done.stdout and done.returncode == 0, done.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_B18_memory_that_gives_out_is_named_with_its_file(workers: int, tmp_path: Path) -> None:
    source = shaded(tmp_path / "a")
    victim = int(source.training[5])

    def act(index: int) -> None:
        if index == victim:
            raise MemoryError

    loader = TrainLoader(with_picture(source, act), POLICY, Augment(crop=NoCrop()), Data(batch=4, workers=workers), 0)
    with pytest.raises(SystemFault, match=source.title(victim)) as caught:
        list(loader.iterate(0, 4))
    assert caught.value.code == "V703" and caught.value.exit_code == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_B18_a_thread_that_fails_ends_the_run_with_its_error(workers: int, tmp_path: Path) -> None:
    source = shaded(tmp_path / "a")

    def act(index: int) -> None:
        raise ZeroDivisionError

    loader = TrainLoader(with_picture(source, act), POLICY, Augment(crop=NoCrop()), Data(batch=4, workers=workers), 0)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(loader.iterate(0, 4))
    assert threading.active_count() == before


def test_B18_a_fifo_is_refused_at_once_and_named(tmp_path: Path) -> None:
    source = shaded(tmp_path / "a")
    victim = int(source.training[0])
    replace_by_a_fifo(tmp_path / "a" / source.title(victim))
    loader = TrainLoader(source, POLICY, Augment(crop=NoCrop()), Data(batch=19, workers=2), 0)
    with pytest.raises(PictureError, match=source.title(victim)):
        list(loader.iterate(0, 1))


@pytest.mark.prove
def test_B18_forty_hangs_at_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        root = tmp_path / str(number)
        root.mkdir()
        source, forever = shaded(root / "a"), threading.Event()
        victim = int(source.training[number % len(source.training)])
        stuck = with_picture(source, lambda index, victim=victim, end=forever: index != victim or end.wait())
        data = Data(batch=1, workers=1 + number % 4, patience=0.3)
        try:
            with pytest.raises(SystemFault, match="no picture came") as caught:
                list(TrainLoader(stuck, POLICY, Augment(crop=NoCrop()), data, number).iterate(0, len(source.training)))
            assert any(source.title(victim) in line for line in caught.value.evidence)
        finally:
            forever.set()
