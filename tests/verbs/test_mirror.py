"""A run whose folder is the address of a store: what lies there is whole at every moment, and can be gone on from."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.verbs.small import hashes, small
from vitrail.cli import run as command
from vitrail.errors import RunError, Stopped, SystemFault
from vitrail.remote import storage
from vitrail.remote.sending import Sent
from vitrail.remote.web import How
from vitrail.training.checkpoint import newest_good
from vitrail.training.journal import read
from vitrail.verbs import mirror
from vitrail.verbs.mirror import local_folder
from vitrail.verbs.train import train

URL = "memory://bucket/runs/flowers"
SHORT = ("schedule.steps=6", "schedule.warmup_epochs=0", "checkpoint={every: 2, unit: steps, keep: 1}")
Row = Mapping[str, Any]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The store of this process, empty; the run lies in `runs/flowers` of a new folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mirror, "Sent", lambda url, how=None: Sent(url, How(timeout=5.0, tries=3, pause=0.0)))
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def copied(system: Any, folder: Path) -> Path:
    """What lies in the store, as files."""
    for name in system.find("/bucket/runs/flowers"):
        path = folder / name.removeprefix("/bucket/runs/flowers/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(system.cat_file(name))
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def faults(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], bool]) -> list[str]:
    """Writes fail where `fails` says so; the names of all that were tried."""
    tried: list[str] = []
    write = storage.Store.write

    def faulty(self: storage.Store, place: Path, path: str) -> None:
        tried.append(path)
        if fails(path):
            raise storage.Again("the line is cut")
        write(self, place, path)

    monkeypatch.setattr(storage.Store, "write", faulty)
    return tried


def test_the_copy_of_a_run_is_the_run(store: Any, tmp_path: Path) -> None:
    events: list[Row] = []
    done = train(small(*SHORT), out=URL, listener=events.append)
    assert done.folder == local_folder(URL) == Path("runs/flowers")
    there = bytes_of(copied(store, tmp_path / "copy"))
    here = bytes_of(done.folder)
    assert {name for name in here.keys() - there.keys() if not name.startswith("checkpoints/")} == set()
    assert all(there[name] == here[name] for name in there)
    assert hashes(tmp_path / "copy") == hashes(done.folder)
    assert any(event["event"] == "note" and "is copied to memory://" in event["text"] for event in events)


def test_a_manifest_comes_last_and_the_bundle_s_last_of_all(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = faults(monkeypatch, lambda path: False)
    train(small(*SHORT), out=URL)
    for step in (2, 4, 6):
        lead = f"checkpoints/step-{step:08d}/"
        manifest = tried.index(f"{lead}manifest.json")
        members = [
            place for place, path in enumerate(tried) if path.startswith(lead) and path != f"{lead}manifest.json"
        ]
        assert len(members) == 4 and max(members) < manifest
        assert tried[manifest - 1] == "train.log"
    assert tried[-1] == "bundle/manifest.json"


@pytest.mark.parametrize("cut", [1, 6, 13])
def test_what_has_a_manifest_is_whole_wherever_the_line_is_cut(
    cut: int, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one write on none arrives: what lies in the store is the last generation that came whole, or none."""
    tried = faults(monkeypatch, lambda path: len(tried) >= cut)
    events: list[Row] = []
    with pytest.raises(SystemFault) as caught:
        train(small(*SHORT), out=URL, listener=events.append)
    assert (caught.value.code, caught.value.exit_code) == ("V701", 4)
    assert (tmp_path / "runs/flowers/bundle/manifest.json").is_file()  # the run itself is done
    assert sum(event["event"] == "warning" for event in events) >= 1
    folder = copied(store, tmp_path / "copy")
    for generation in (folder / "checkpoints").glob("step-*"):
        if not (generation / "manifest.json").is_file():
            shutil.rmtree(generation)
    if (folder / "checkpoints").is_dir():
        path, passed_over = newest_good(folder / "checkpoints")
        assert passed_over == []
        if path is not None:
            assert read(folder / "journal.jsonl")[-1]["step"] >= int(path.name.removeprefix("step-"))


def test_a_line_that_comes_back_is_made_up_for(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    often: dict[str, int] = {}

    def now_and_then(path: str) -> bool:
        often[path] = often.get(path, 0) + 1
        return often[path] <= 2 or "step-00000002" in path

    faults(monkeypatch, now_and_then)
    events: list[Row] = []
    done = train(small(*SHORT), out=URL, listener=events.append)
    warnings = [event["text"] for event in events if event["event"] == "warning"]
    assert [text[: text.index(",")] for text in warnings] == ["step 2 is not copied"]
    assert "the line is cut" in warnings[0]
    assert hashes(copied(store, tmp_path / "copy")) == hashes(done.folder)


def stop_at(step: int) -> Callable[[Row], None]:
    def listener(event: Row) -> None:
        if event["event"] == "step" and event["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return listener


def test_A08_another_machine_goes_on_to_the_same_bits(store: Any, tmp_path: Path) -> None:
    """Stopped by a signal, its local folder lost: --resume brings the run back from the store."""
    whole = train(small(*SHORT), out=tmp_path / "whole")
    with pytest.raises(Stopped):
        train(small(*SHORT), out=URL, listener=stop_at(3))
    shutil.rmtree("runs")
    assert command(["train", "--resume", "--out", URL]) == 0
    assert hashes(Path("runs/flowers")) == hashes(whole.folder)
    steps = [row["step"] for row in read(Path("runs/flowers/journal.jsonl")) if row["event"] == "step"]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_second_start_and_a_stale_folder_are_refused(store: Any, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(small(*SHORT), out=URL, listener=stop_at(2))
    shutil.copytree("runs", tmp_path / "old")
    train(small(*SHORT), out=URL, resume=True)
    shutil.rmtree("runs")
    with pytest.raises(RunError, match="holds a run already"):
        train(small(*SHORT), out=URL)
    shutil.copytree(tmp_path / "old", "runs")
    with pytest.raises(RunError, match="is behind memory://") as caught:
        train(small(*SHORT), out=URL, resume=True)
    assert caught.value.code == "V601" and "step-00000006" in caught.value.what


def test_a_signal_leaves_soon_though_the_store_hangs(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last save is copied by one short try; what it does not get through is told."""
    asked: list[tuple[int, float]] = []
    hurried = Sent.hurried

    def counted(self: Sent, seconds: float) -> Sent:
        sent = hurried(self, seconds)
        asked.append((sent._how.tries, sent._how.timeout))
        return sent

    monkeypatch.setattr(Sent, "hurried", counted)
    faults(monkeypatch, lambda path: True)
    events: list[Row] = []

    def listener(event: Row) -> None:
        events.append(event)
        stop_at(1)(event)

    with pytest.raises(Stopped):
        train(small(*SHORT), out=URL, listener=listener)
    assert asked == [(1, 3.0)]
    assert [event["event"] for event in events][-2:] == ["stopped", "warning"]
