"""Checkpoints survive kills, full disks, damage and each other: promises A1, A2, A5-A7, A20, A22, A25."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.faults import Call, Fault, Outcome, failures, kills, trial, trials
from tests.faults.scenarios import NEW, OLD, SAVES, snapshot
from vitrail import disk
from vitrail.errors import NumbersBroke, RunError, SystemFault, UsageError, VitrailError
from vitrail.formats.stored import Stored, Tensors
from vitrail.training import checkpoint, generation
from vitrail.training.checkpoint import Snapshot, best_of, generations, load, newest_good, save, verify

SCENARIOS = "tests.faults.scenarios:"
GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoint-1.0"
MEMBERS = ("ema.safetensors", "manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors")


@pytest.fixture(autouse=True)
def _no_real_flush(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "keeps_fsync" not in request.fixturenames:
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def assert_same(found: Snapshot, wanted: Snapshot) -> None:
    assert (found.step, found.state) == (wanted.step, wanted.state)
    assert {name: _plain(file) for name, file in found.files.items()} == {
        name: _plain(file) for name, file in wanted.files.items()
    }


def _plain(tensors: Tensors) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (tensor.dtype, tensor.shape, bytes(tensor.data)) for name, tensor in tensors.items()}


def two(folder: Path) -> Path:
    """A folder with the generations OLD and NEW; returns NEW."""
    save(folder, snapshot(OLD), keep=2)
    return save(folder, snapshot(NEW), keep=2)


# ---- A1: kills


def losses(outcomes: Sequence[Outcome], written: Callable[[int], Snapshot]) -> list[str]:
    """What is wrong after each trial: a resume must find the old or the new state, and the next save must work."""
    wrong = []
    for outcome in outcomes:
        folder = outcome.folder / "checkpoints"
        try:
            path, notes = newest_good(folder)
            assert path is not None
            assert not notes, notes
            found = load(path)
            assert_same(found, written(found.step))
            save(folder, snapshot(NEW + 1), keep=1)
            left = {entry.name for entry in folder.iterdir() if not entry.name.endswith((".bad", ".lock"))}
            assert left - {f"step-{NEW:08d}", f"step-{OLD - 1:08d}", "best"} == {f"step-{NEW + 1:08d}", "latest"}
        except (AssertionError, VitrailError) as error:
            wrong.append(f"{outcome.fault} at {outcome.hit}: {error}")
        shutil.rmtree(outcome.folder)
    return wrong


def state_of(scenario: str) -> Callable[[int], Snapshot]:
    """What each scenario wrote under a step."""

    def written(step: int) -> Snapshot:
        full = snapshot(step, rows=4 if scenario == "prune" else 40)
        if scenario == "weights_only" and step == NEW:
            return Snapshot(step, {"weights": full.files["weights"]}, full.state)
        return full

    return written


def kill_everywhere(scenario: str, place: Path, *, every: int = 1) -> None:
    clean = trial(SCENARIOS + scenario, place)
    assert clean.calls > 20
    outcomes = trials(SCENARIOS + scenario, place, kills(clean)[::every])
    assert all(outcome.killed and outcome.calls == outcome.fault.at for outcome in outcomes)
    assert losses(outcomes, state_of(scenario)) == []


def test_A01_a_kill_at_any_call_of_a_save_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    kill_everywhere("full_save", tmp_path)


def test_A01_a_kill_while_a_saved_step_becomes_the_best(tmp_path: Path) -> None:
    kill_everywhere("mark_best", tmp_path, every=4)  # at every call in the campaign


@pytest.mark.prove
@pytest.mark.parametrize("scenario", SAVES)
def test_A01_every_kind_of_save(scenario: str, tmp_path: Path) -> None:
    kill_everywhere(scenario, tmp_path)


def test_F01_the_kill_test_sees_a_save_straight_to_its_name(tmp_path: Path) -> None:
    scenario = SCENARIOS + "save_straight_to_its_name"
    outcomes = trials(scenario, tmp_path, kills(trial(scenario, tmp_path))[::8])
    assert len(losses(outcomes, snapshot)) > 1


# ---- A2: errors


def fail_everywhere(scenario: str, place: Path, wanted: Callable[[Fault], bool]) -> None:
    clean = trial(SCENARIOS + scenario, place)
    faults = [fault for fault in failures(clean) if wanted(fault)]
    outcomes = trials(SCENARIOS + scenario, place, faults)
    wrong = [f"{outcome.fault} at {outcome.hit}: {said}" for outcome in outcomes if (said := untold(outcome))]
    assert wrong == []
    assert losses(outcomes, state_of(scenario)) == []


def untold(outcome: Outcome) -> str | None:
    """What is wrong with the answer to one fault: V701 with the true errno, or a success where one is possible."""
    if outcome.crash or outcome.exit or not outcome.hits:
        return outcome.crash or f"exit {outcome.exit}, {outcome.hits} hits"
    if outcome.error is None:
        may_succeed = outcome.fault.kind != "errno" or outcome.fault.errno == errno.EINTR
        return None if may_succeed else "the error was swallowed"
    name = errno.errorcode[outcome.fault.errno]
    told = outcome.error["code"] == "V701" and f"errno {outcome.fault.errno} ({name})" in outcome.error["text"]
    return None if told and "/checkpoints" in outcome.error["text"] else outcome.error["text"]


def test_A02_an_error_at_any_call_of_a_save_is_told_and_harmless(tmp_path: Path) -> None:
    rare = (errno.EDQUOT, errno.EFBIG)  # they take the way of ENOSPC: here at every fifth call, at all in the campaign
    fail_everywhere("full_save", tmp_path, lambda f: not f.onward and (f.errno not in rare or f.at % 5 == 0))


def test_A02_a_disk_that_stays_full_is_told_and_harmless(tmp_path: Path) -> None:
    fail_everywhere("full_save", tmp_path, lambda f: f.onward and f.errno == errno.ENOSPC and f.at % 2 == 1)


@pytest.mark.prove
@pytest.mark.parametrize("scenario", SAVES)
def test_A02_every_kind_of_save_every_fault_once_and_for_ever(scenario: str, tmp_path: Path) -> None:
    fail_everywhere(scenario, tmp_path, lambda fault: True)


# ---- A5, A6: damage and advice


def flip(at: float, bit: int = 0x01) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[round(at * (len(data) - 1))] ^= bit
        path.write_bytes(data)

    return change


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "first byte": flip(0),
    "middle byte": flip(0.5),
    "last byte": flip(1),
    "one byte less": shorten,
    "one byte more": lengthen,
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "a link": link,
    "a pipe": fifo,
    "a folder": folder_instead,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("member", MEMBERS)
def test_A05_a_damaged_newest_falls_back_and_is_kept_aside(member: str, damage: str, tmp_path: Path) -> None:
    newest = two(tmp_path)
    DAMAGES[damage](newest / member)
    with pytest.raises(RunError) as refused:
        load(newest)
    assert refused.value.code == "V604"
    assert f"{newest.name}/{member}" in refused.value.what
    with pytest.raises(RunError, match=member):
        verify(newest)
    path, notes = newest_good(tmp_path)
    assert path == tmp_path / f"step-{OLD:08d}"
    assert_same(load(path), snapshot(OLD))
    (note,) = notes
    assert member in note
    assert f"{newest.name}.bad" in note
    assert (tmp_path / f"{newest.name}.bad").is_dir()
    assert newest_good(tmp_path) == (path, [])


@pytest.mark.prove
@pytest.mark.parametrize("member", MEMBERS)
def test_A05_every_byte_of_every_member_counts(member: str, tmp_path: Path) -> None:
    save(tmp_path, snapshot(OLD, rows=4), keep=2)
    target = save(tmp_path, snapshot(NEW, rows=4), keep=2) / member
    data = target.read_bytes()
    for at in range(len(data)):
        for bit in (0x01, 0x04, 0x20, 0x80):
            target.write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
            path, _ = newest_good(tmp_path, set_aside=False)
            assert path == tmp_path / f"step-{OLD:08d}", (at, bit)
        target.write_bytes(data[:at])
        path, _ = newest_good(tmp_path, set_aside=False)
        assert path == tmp_path / f"step-{OLD:08d}", at


def test_A05_a_second_damaged_one_of_a_name_gets_a_number(tmp_path: Path) -> None:
    for _ in range(2):
        shorten(two(tmp_path) / "state.json")
        newest_good(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.bad*")) == [f"step-{NEW:08d}.bad", f"step-{NEW:08d}.bad2"]


def test_A05_none_good_is_refused_again_and_again(tmp_path: Path) -> None:
    two(tmp_path)
    for path in generations(tmp_path):
        flip(0.5)(path / "weights.safetensors")
    for _ in range(2):
        with pytest.raises(RunError) as refused:
            newest_good(tmp_path)
        assert refused.value.code == "V603"
        assert len(refused.value.evidence) == 2
        assert len(generations(tmp_path)) == 2


def test_A05_a_reader_without_the_lock_renames_nothing(tmp_path: Path) -> None:
    newest = two(tmp_path)
    shorten(newest / "weights.safetensors")
    path, notes = newest_good(tmp_path, set_aside=False)
    assert path == tmp_path / f"step-{OLD:08d}"
    assert "left in its place" in notes[0]
    assert newest.is_dir()


def test_A05_a_folder_that_cannot_be_renamed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(two(tmp_path) / "weights.safetensors")

    def refuse(*names: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "rename", refuse)
    path, notes = newest_good(tmp_path)
    assert path == tmp_path / f"step-{OLD:08d}"
    assert "Read-only file system" in notes[0]


def test_A05_a_disk_that_cannot_be_read_is_damage_but_a_permission_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = two(tmp_path)
    real = disk.sha256_file

    def failing(code: int) -> Callable[..., str]:
        def read(path: Path, *, follow: bool = True) -> str:
            if path.parent == newest:
                cause = OSError(code, os.strerror(code))
                raise SystemFault("V702", f"cannot read `{path}`") from cause
            return real(path, follow=follow)

        return read

    monkeypatch.setattr(disk, "sha256_file", failing(errno.EACCES))
    with pytest.raises(SystemFault):
        newest_good(tmp_path)
    monkeypatch.setattr(disk, "sha256_file", failing(errno.EIO))
    assert newest_good(tmp_path)[0] == tmp_path / f"step-{OLD:08d}"


opened: list[str] | None = None


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if opened is not None and event in ("open", "os.listdir", "os.scandir"):
        opened.append(os.path.realpath(str(arguments[0])))


sys.addaudithook(_hear)

ADVICE: dict[str, Callable[[Path, Path], object]] = {
    "missing": lambda latest, outside: None,
    "dangling link": lambda latest, outside: latest.symlink_to("step-00009999"),
    "link to a generation outside": lambda latest, outside: latest.symlink_to(outside / f"step-{NEW + 5:08d}"),
    "link to a file outside": lambda latest, outside: latest.symlink_to(outside / "secret"),
    "names a path outside": lambda latest, outside: latest.write_text(f"../outside/step-{NEW + 5:08d}\n"),
    "names the older one": lambda latest, outside: latest.write_text(f"step-{OLD:08d}\n"),
    "rubbish": lambda latest, outside: latest.write_bytes(bytes(range(256)) * 40),
    "pipe": lambda latest, outside: os.mkfifo(latest),
}


@pytest.mark.parametrize("advice", ADVICE)
def test_A06_latest_is_advice_only(advice: str, tmp_path: Path) -> None:
    global opened
    folder, outside = tmp_path / "checkpoints", tmp_path / "outside"
    newest = two(folder)
    save(outside, snapshot(NEW + 5), keep=1)
    (outside / "secret").write_text("secret")
    (folder / "latest").unlink()
    ADVICE[advice](folder / "latest", outside)
    opened = []
    try:
        path, notes = newest_good(folder)
        assert path is not None
        found = load(path)
    finally:
        heard, opened = opened, None
    assert (path, notes) == (newest, [])
    assert_same(found, snapshot(NEW))
    assert heard
    assert not [name for name in heard if Path(name).is_relative_to(outside)]
    save(folder, snapshot(NEW + 1), keep=2)
    assert (folder / "latest").read_text() == f"step-{NEW + 1:08d}\n"
    assert not (folder / "latest").is_symlink()
    assert (outside / "secret").read_text() == "secret"


def test_A06_a_linked_generation_is_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "checkpoints", tmp_path / "outside"
    two(folder)
    later = save(outside, snapshot(NEW + 5), keep=1)
    (folder / later.name).symlink_to(later)
    assert [path.name for path in generations(folder)] == [f"step-{OLD:08d}", f"step-{NEW:08d}"]
    path, notes = newest_good(folder)
    assert path == folder / f"step-{NEW:08d}"
    assert len(notes) == 1
    verify(later)


# ---- A7: order, pruning, best


def assert_order(trace: Sequence[Call]) -> None:
    """Each file flushed after its last write, then its folder, the rename, the folder above, all read, then removal."""
    target = f"/checkpoints/step-{NEW:08d}"
    renamed = next(at for at, call in enumerate(trace) if call.name == "rename" and call.other == target)
    aside = trace[renamed].path
    before, after = trace[:renamed], trace[renamed + 1 :]
    written = {call.path for call in before if call.name == "write" and call.path.startswith(aside)}
    assert len(written) == len(MEMBERS)
    for path in written:
        last_write = max(at for at, call in enumerate(before) if call[:2] == ("write", path))
        assert Call("fsync", path) in before[last_write:], path
    last_write = max(at for at, call in enumerate(before) if call.name == "write")
    assert Call("fsync", aside) in before[last_write:]
    flushed = after.index(Call("fsync", "/checkpoints"))
    removal = next(at for at, call in enumerate(after) if call.path == f"/checkpoints/step-{OLD:08d}")
    reads = [at for at, call in enumerate(after) if call.name == "read" and call.path.startswith(target)]
    assert {after[at].path for at in reads if flushed < at < removal} == {f"{target}/{name}" for name in MEMBERS}
    gone = next(at for at, call in enumerate(after) if call.name in ("unlink", "rmdir"))
    first_rename = next(at for at, call in enumerate(after) if call[:2] == ("rename", f"/checkpoints/step-{OLD:08d}"))
    assert flushed < min(reads) < first_rename < gone
    assert Call("fsync", "/checkpoints") in after[first_rename:gone]


def without_manifest_reads(trace: Sequence[Call]) -> list[Call]:
    """The reads of manifests belong to pruning as well; the removal is what follows them."""
    old = f"/checkpoints/step-{OLD:08d}/manifest.json"
    return [call for call in trace if call.path != old]


def test_A07_rename_flush_read_back_then_remove(tmp_path: Path) -> None:
    assert_order(without_manifest_reads(trial(SCENARIOS + "full_save", tmp_path).trace))


@pytest.mark.parametrize("scenario", ["save_without_fsync", "save_without_reading_back"])
def test_F01_the_order_test_sees_a_missing_guard(scenario: str, tmp_path: Path) -> None:
    trace = without_manifest_reads(trial(SCENARIOS + scenario, tmp_path).trace)
    with pytest.raises((AssertionError, ValueError)):
        assert_order(trace)


def test_A07_a_kill_while_five_old_ones_go_leaves_a_good_one(tmp_path: Path) -> None:
    kill_everywhere("prune", tmp_path, every=5)  # at every call in the campaign of A1


def test_A07_a_new_one_that_does_not_read_back_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, snapshot(OLD), keep=1)
    real = disk.write_new

    def lying_disk(path: Path, data: bytes) -> None:
        real(path, data[:-1] + bytes([data[-1] ^ 1]) if path.name == "weights.safetensors" else data)

    monkeypatch.setattr(disk, "write_new", lying_disk)
    with pytest.raises(SystemFault) as fault:
        save(tmp_path, snapshot(NEW), keep=1)
    assert fault.value.code == "V701"
    assert "weights.safetensors" in str(fault.value)
    assert [path.name for path in generations(tmp_path)] == [f"step-{OLD:08d}"]
    assert (tmp_path / f"step-{NEW:08d}.bad").is_dir()
    monkeypatch.undo()
    assert newest_good(tmp_path)[0] == tmp_path / f"step-{OLD:08d}"


def steps(folder: Path) -> list[int]:
    return [generation.manifest_of(path).step for path in generations(folder)]


def test_A07_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step, best in ((1, True), (2, True), (3, False), (4, False), (5, False)):
        save(tmp_path, snapshot(step), keep=2, best=best)
    assert steps(tmp_path) == [2, 4, 5]
    assert best_of(tmp_path) == tmp_path / "step-00000002"
    assert (tmp_path / "best").read_text() == "step-00000002\n"
    (tmp_path / "best").write_text("step-00000005\n")
    save(tmp_path, snapshot(6), keep=2)
    assert steps(tmp_path) == [2, 5, 6]
    (tmp_path / "best").unlink()
    assert best_of(tmp_path) == tmp_path / "step-00000002"
    save(tmp_path, snapshot(7), keep=2, best=True)
    assert steps(tmp_path) == [6, 7]


def test_best_of_passes_over_damage(tmp_path: Path) -> None:
    assert best_of(tmp_path / "nothing") is None
    save(tmp_path, snapshot(1), keep=5, best=True)
    newer = save(tmp_path, snapshot(2), keep=5, best=True)
    flip(0.5)(newer / "ema.safetensors")
    assert best_of(tmp_path) == tmp_path / "step-00000001"


def test_pruning_leaves_later_and_unreadable_ones(tmp_path: Path) -> None:
    save(tmp_path, snapshot(9), keep=1)
    for step in (1, 2):
        save(tmp_path, snapshot(step), keep=2)
    shorten(tmp_path / "step-00000001" / "manifest.json")
    save(tmp_path, snapshot(3), keep=1)
    assert [path.name for path in generations(tmp_path)] == ["step-00000001", "step-00000003", "step-00000009"]


# ---- A20: steps, not times


def test_A20_order_is_by_step_whatever_the_clock_says(tmp_path: Path) -> None:
    for number, step in enumerate((7, 123_456_789, 99_999_999, 100_000_000)):
        path = save(tmp_path, snapshot(step), keep=9)
        os.utime(path, (10**9 - number, 2**33 - number))
    assert steps(tmp_path) == [7, 99_999_999, 100_000_000, 123_456_789]
    assert newest_good(tmp_path)[0] == tmp_path / "step-123456789"


def test_only_exact_names_are_generations(tmp_path: Path) -> None:
    for name in ("step-1", "step-000000012", "step-00000012.bad", "step-0000001x", "step-٠٠٠٠٠٠٠١", "x", ".aside-1-a"):
        (tmp_path / name).mkdir()
    assert generations(tmp_path) == []
    assert newest_good(tmp_path) == (None, [])
    assert newest_good(tmp_path / "nothing") == (None, [])


# ---- A22: space


def size_of(snapshot_: Snapshot) -> int:
    return sum(tensor.nbytes for file in snapshot_.files.values() for tensor in file.values())


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("share", "fits"), [(1.0, False), (1.05, False), (2.0, True)])
def test_A22_space_is_checked_first(share: float, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = snapshot(NEW, rows=20_000)
    save(tmp_path, snapshot(OLD), keep=2)
    before = listing(tmp_path)
    monkeypatch.setattr(disk, "free_space", lambda path: int(size_of(big) * share))
    check_space(tmp_path, big, fits, before)


def check_space(folder: Path, big: Snapshot, fits: bool, before: dict[str, bytes]) -> None:
    if fits:
        verify(save(folder, big, keep=2))
        return
    with pytest.raises(SystemFault) as fault:
        save(folder, big, keep=2)
    assert fault.value.code == "V701"
    assert "ENOSPC" in str(fault.value)
    assert listing(folder) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function that mounts a tmpfs of so many bytes; skips where mounting is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs the right to mount a tmpfs")
        return place / "checkpoints"

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True)


@pytest.mark.parametrize(("share", "fits"), [(1.0, False), (1.05, False), (2.0, True)])
def test_A22_on_a_small_disk(share: float, fits: bool, small_disk: Callable[[int], Path]) -> None:
    big = snapshot(NEW, rows=20_000)
    folder = small_disk(int(size_of(big) * share) + 10 * 4096)
    save(folder, snapshot(OLD), keep=2)
    check_space(folder, big, fits, listing(folder))


def test_A22_a_disk_that_fills_up_meanwhile(small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    big = snapshot(NEW, rows=20_000)
    folder = small_disk(size_of(big) // 2)
    save(folder, snapshot(OLD), keep=2)
    before = listing(folder)
    monkeypatch.setattr(disk, "free_space", lambda path: 2**60)
    check_space(folder, big, False, before)


# ---- A25: formats


def golden_snapshot() -> Snapshot:
    """What the golden checkpoint holds, made from integers."""
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8
    files = {
        "weights": {"a.weight": Stored.of(values), "a.bias": Stored.of(-values[0, 0].copy())},
        "ema": {"a.weight": Stored.of(values * 0.5), "half": Stored("BF16", (2,), bytes([0x80, 0x3F, 0x20, 0xC0]))},
        "optimizer": {
            "exp_avg": Stored.of(values.astype(np.float64)),
            "flags": Stored.of(np.array([True, False])),
            "scalar": Stored.of(np.array(3.5, np.float16)),
            "step": Stored.of(np.array([7], np.int64)),
            "empty": Stored.of(np.zeros((0, 3), np.uint8)),
        },
    }
    state = {"epoch": 1.5, "seed": 2**60 + 1, "classes": ["Käse", "猫"], "best": {"top1": 0.1}, "none": None}
    return Snapshot(7, files, state)


def test_A25_the_golden_checkpoint_of_1_0_loads_for_ever() -> None:
    verify(GOLDEN)
    assert_same(load(GOLDEN), golden_snapshot())
    manifest = json.loads((GOLDEN / "manifest.json").read_text())
    assert manifest["version"] == "1.0"
    assert manifest["digest"] == "a9be148e1ffde41a429b5f10688880c39d70f93a78a14ed27bd4ed58a56c8b16"


def test_A25_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    path = save(tmp_path, golden_snapshot(), keep=1)
    assert listing(path) == listing(GOLDEN)


def rewrite(path: Path, **changes: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["digest"]
    (path / "manifest.json").write_bytes(generation.sealed({**manifest, **changes}))


def test_A25_a_newer_minor_version_loads_and_keeps_its_fields(tmp_path: Path) -> None:
    path = save(tmp_path, snapshot(OLD), keep=2)
    (path / "scaler.bin").write_bytes(b"new")
    files = json.loads((path / "manifest.json").read_text())["files"]
    extra = {"scaler.bin": {"size": 3, "sha256": disk.sha256_bytes(b"new"), "kind": "raw"}}
    rewrite(path, version="1.9", files=files | extra, world={"size": 4})
    assert_same(load(path), snapshot(OLD))
    save(tmp_path, snapshot(OLD), keep=2, best=True)
    kept = json.loads((path / "manifest.json").read_text())
    assert (kept["world"], kept["version"], kept["best"]) == ({"size": 4}, "1.9", True)
    (path / "scaler.bin").write_bytes(b"bad")
    with pytest.raises(RunError, match=r"scaler\.bin"):
        verify(path)


@pytest.mark.parametrize("version", ["2.0", "0.9", "10.0", None, 1])
def test_A25_another_major_version_is_refused_and_no_damage(version: object, tmp_path: Path) -> None:
    newest = two(tmp_path)
    rewrite(newest, version=version)
    for reading in (verify, load):
        with pytest.raises(RunError, match=str(version)) as refused:
            reading(newest)
        assert refused.value.code == "V605"
    with pytest.raises(RunError, match=str(version)):
        newest_good(tmp_path)
    assert newest.is_dir()


@pytest.mark.parametrize(
    "changes",
    [
        {"step": OLD + 1},
        {"step": "10"},
        {"best": 1},
        {"files": []},
        {"files": {}},
        {"files": {"state.json": {"size": 1}}},
        {"files": {"state.json": None}},
        {"files": {"../state.json": {"size": 1, "sha256": "0"}, "state.json": {"size": 1, "sha256": "0"}}},
        {"format": "something"},
    ],
)
def test_a_manifest_that_makes_no_sense_is_damage(changes: dict[str, object], tmp_path: Path) -> None:
    path = save(tmp_path, snapshot(OLD), keep=2)
    rewrite(path, **changes)
    with pytest.raises(RunError) as refused:
        load(path)
    assert refused.value.code == "V604"


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"a":1,"a":2}', b'{"a":NaN}', b"[" * 100_000, b"\xff", b"9" * 9000])
def test_a_manifest_that_is_no_plain_json_is_damage(text: bytes, tmp_path: Path) -> None:
    path = save(tmp_path, snapshot(OLD), keep=2)
    (path / "manifest.json").write_bytes(text)
    with pytest.raises(RunError) as refused:
        load(path)
    assert refused.value.code == "V604"


def test_a_state_that_is_no_object_is_damage(tmp_path: Path) -> None:
    path = save(tmp_path, snapshot(OLD), keep=2)
    (path / "state.json").write_bytes(b"[]\n")
    files = json.loads((path / "manifest.json").read_text())["files"]
    files["state.json"] = {"size": 3, "sha256": disk.sha256_bytes(b"[]\n")}
    rewrite(path, files=files)
    with pytest.raises(RunError, match=r"state\.json"):
        load(path)


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text('{"format": "vitrail bundle", "files": {}}')
    (tmp_path / "link").symlink_to(GOLDEN)
    for name in ("nothing", "file", "bundle", "link", "."):
        for reading in (verify, load):
            with pytest.raises(RunError) as refused:
                reading(tmp_path / name)
            assert refused.value.code == "V607", name


def test_a_renamed_copy_loads_and_a_misnamed_step_does_not(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "my favourite")
    assert_same(load(tmp_path / "my favourite"), golden_snapshot())
    shutil.copytree(GOLDEN, tmp_path / "step-00000008")
    with pytest.raises(RunError, match="step 7"):
        verify(tmp_path / "step-00000008")


# ---- saving


def test_a_step_saved_twice_is_written_once(tmp_path: Path) -> None:
    path = save(tmp_path, snapshot(OLD), keep=1)
    before = listing(path)
    assert save(tmp_path, snapshot(OLD), keep=1) == path
    assert listing(path) == before
    save(tmp_path, snapshot(OLD), keep=1, best=True)
    assert best_of(tmp_path) == path
    other = Snapshot(OLD, snapshot(NEW).files, snapshot(OLD).state)
    with pytest.raises(RunError) as refused:
        save(tmp_path, other, keep=1)
    assert refused.value.code == "V601"
    assert_same(load(path), snapshot(OLD))


def test_a_damaged_step_is_set_aside_when_it_is_saved_again(tmp_path: Path) -> None:
    path = two(tmp_path)
    shorten(path / "weights.safetensors")
    assert save(tmp_path, snapshot(NEW), keep=2) == path
    verify(path)
    assert (tmp_path / f"{path.name}.bad").is_dir()


def test_a_newer_format_under_the_same_step_is_not_overwritten(tmp_path: Path) -> None:
    rewrite(two(tmp_path), version="2.0")
    with pytest.raises(RunError, match=r"2\.0"):
        save(tmp_path, snapshot(NEW), keep=2)


def test_the_manifest_names_the_generation_before(tmp_path: Path) -> None:
    newest = two(tmp_path)
    read = [json.loads((path / "manifest.json").read_text())["previous"] for path in generations(tmp_path)]
    assert read == [None, f"step-{OLD:08d}"]
    assert sorted(path.name for path in newest.iterdir()) == list(MEMBERS)


def test_leftovers_of_killed_saves_go(tmp_path: Path) -> None:
    (tmp_path / f"{disk.ASIDE}1-folder").mkdir()
    (tmp_path / f"{disk.ASIDE}1-folder" / "weights.safetensors").write_bytes(b"half")
    (tmp_path / f"{disk.ASIDE}2-file").write_bytes(b"half")
    two(tmp_path)
    assert not list(tmp_path.glob(f"{disk.ASIDE}*"))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_nan_in_the_state_is_refused_before_a_byte(number: float, tmp_path: Path) -> None:
    with pytest.raises(NumbersBroke) as broke:
        save(tmp_path, Snapshot(1, {}, {"loss": {"last": [number]}}), keep=1)
    assert broke.value.code == "V811"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("step", "keep"), [(1, 0), (-1, 1), (10**12, 1)])
def test_arguments_out_of_range_are_refused(step: int, keep: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        save(tmp_path, Snapshot(step, {}, {}), keep=keep)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=st.dictionaries(st.text(), JSON, max_size=4), values=st.binary(max_size=64))
def test_any_state_comes_back_exactly(state: dict[str, object], values: bytes, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "c", ignore_errors=True)
    saved = Snapshot(3, {"weights": {"w": Stored("U8", (len(values),), values)}, "ema": {}}, state)
    assert_same(load(save(tmp_path / "c", saved, keep=1)), saved)


def test_checkpoint_works_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import vitrail.training.checkpoint"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert checkpoint.__all__ == sorted(checkpoint.__all__)
