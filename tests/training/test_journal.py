"""Rows are whole or absent, read back exactly, and cut at the step of a resume: promise A24."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.errors import RunError, SystemFault
from vitrail.training.journal import JOURNAL, LOG, Journal, plain, read, restart, truncate_to


def written(folder: Path, rows: list[dict[str, object]]) -> Path:
    journal = Journal(folder)
    for row in rows:
        journal.write(row)
    journal.close()
    return folder / JOURNAL


ROWS: list[dict[str, object]] = [
    {"event": "start", "step": 0, "steps": 4},
    {"event": "step", "step": 1, "loss": 0.1 + 0.2, "lr": 1e-300},
    {"event": "skipped", "step": 2, "loss": float("nan"), "norm": float("inf"), "indices": [3, 1]},
    {"event": "evaluation", "step": 2, "top1": 1 / 3},
    {"event": "checkpoint", "step": 2, "name": "step-00000002"},
    {"event": "step", "step": 3, "loss": 5e-324},
    {"event": "end", "step": 3},
]
READ = [{**row, **({"loss": "nan", "norm": "inf"} if row["event"] == "skipped" else {})} for row in ROWS]


def test_A24_rows_come_back_exactly(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    assert read(path) == READ
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_written_with_all_their_digits(value: float) -> None:
    assert json.loads(json.dumps(value)) == value


@given(cut=st.integers(1, 400))
def test_A24_a_cut_tail_loses_rows_from_the_end_alone(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = written(tmp_path_factory.mktemp("cut"), ROWS)
    data = path.read_bytes()[:-cut]
    path.write_bytes(data)
    assert read(path) == READ[: data.count(b"\n")]


def test_A24_zeros_after_a_power_loss_are_no_rows(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS[:3])
    with path.open("ab") as file:
        file.write(b"\0" * 100 + b"\n")
    assert read(path) == READ[:3]


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"rubbish\n", *lines[2:]]))
    with pytest.raises(RunError, match="line 2 of") as caught:
        read(path)
    assert caught.value.code == "V604"


@pytest.mark.parametrize(
    ("step", "settled", "kept"),
    [(0, True, 1), (1, True, 2), (2, True, 5), (2, False, 3), (3, True, 6), (9, True, 6)],
)
def test_A24_rows_after_the_resumed_step_go(step: int, settled: bool, kept: int, tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    truncate_to(path, step, settled=settled)
    assert read(path) == READ[:kept]


def test_truncating_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    truncate_to(tmp_path / JOURNAL, 3)
    assert list(tmp_path.iterdir()) == []


def test_a_restart_empties_the_journal_and_keeps_the_log(tmp_path: Path) -> None:
    written(tmp_path, ROWS)
    log = (tmp_path / LOG).read_text()
    restart(tmp_path)
    assert read(tmp_path / JOURNAL) == []
    assert (tmp_path / LOG).read_text() == log


def test_the_log_has_no_step_rows_and_no_forged_lines(tmp_path: Path) -> None:
    written(tmp_path, [*ROWS, {"event": "warning", "step": 3, "text": "x\n2020-01-01 end\x1b[31m"}])
    lines = (tmp_path / LOG).read_text().splitlines()
    assert [line.split()[2] for line in lines] == ["start", "skipped", "evaluation", "checkpoint", "end", "warning"]
    assert "\x1b" not in lines[-1]
    assert plain({"event": "end", "step": 1, "many": list(range(1000))}).endswith("...")


def full_disk(monkeypatch: pytest.MonkeyPatch, when: set[int]) -> None:
    """Writes number `when`, counted from 1, write two bytes or nothing; then ENOSPC."""
    write, calls = os.write, iter(range(1, 1000))

    def scarce(file: int, data: bytes) -> int:
        number = next(calls)
        if number in when:
            if number - 1 in when:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(file, data[:2])
        return write(file, data)

    monkeypatch.setattr(os, "write", scarce)


def test_A02_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    full_disk(monkeypatch, {1, 2})
    with pytest.raises(SystemFault) as caught:
        journal.write(ROWS[1])
    assert (caught.value.code, "ENOSPC" in caught.value.evidence[0]) == ("V701", True)
    monkeypatch.undo()
    journal.close()
    assert read(tmp_path / JOURNAL) == READ[1:2]


def test_A02_a_patient_journal_writes_the_row_later_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, patient=True)
    full_disk(monkeypatch, {2, 3})  # the second row's: the first row goes in one write
    for row in (ROWS[1], ROWS[5], ROWS[1]):
        journal.write(row)
    journal.close()
    assert read(tmp_path / JOURNAL) == [READ[1], READ[5], READ[1]]


def test_a_link_in_the_journal_s_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    (tmp_path / JOURNAL).symlink_to(tmp_path / "other")
    with pytest.raises(SystemFault):
        Journal(tmp_path)
    assert (tmp_path / "other").read_text() == "mine"
