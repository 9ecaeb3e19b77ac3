"""Shards of predictions: a row a picture in the source's order, whatever was damaged, stopped or killed in between."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.faults import Fault, Outcome, failures, kills, trial, trials
from tests.predictions.asked import contents
from tests.predictions.scenario import JOB, answer
from vitrail.errors import RunError, SystemFault, UsageError
from vitrail.predictions.job import NAME, SUMMARY, Job, pinned_engine

SCENARIO = "tests.predictions.scenario:"


@pytest.fixture
def done(tmp_path: Path) -> Path:
    assert answer(tmp_path / "out") is False
    return tmp_path / "out"


@given(st.integers(1, 10**9), st.integers(1, 10**5))
def test_every_picture_is_in_one_shard(pictures: int, rows: int) -> None:
    job = replace(JOB, pictures=pictures, shard_rows=rows)
    assert job.rows(0).start == 0 and job.rows(job.shards - 1).stop == pictures
    for number in {0, job.shards // 2, max(0, job.shards - 2)}:
        assert 1 <= len(job.rows(number)) <= rows
        assert number == job.shards - 1 or job.rows(number).stop == job.rows(number + 1).start


@pytest.mark.parametrize("scenario", ["whole", "repaired"])
def test_a_kill_at_every_call_loses_and_doubles_no_row(tmp_path: Path, done: Path, scenario: str) -> None:
    outcomes = trials(SCENARIO + scenario, tmp_path, kills(trial(SCENARIO + scenario, tmp_path)))
    assert len(outcomes) > 30 and all(outcome.killed for outcome in outcomes)
    assert_goes_on(outcomes, done)


def assert_goes_on(outcomes: list[Outcome], done: Path) -> None:
    """After every trial the same call gives what it gives without faults, and no shard has bytes of its own."""
    wanted = contents(done)
    for outcome in outcomes:
        assert outcome.crash is None, (outcome.fault, outcome.crash)
        there = outcome.folder / "out"
        for path in there.glob("part-*"):
            data = path.read_bytes()
            assert data == wanted[path.name] or data == wanted[path.name] + b"junk", outcome.fault
        answer(there)
        assert contents(there) == wanted, outcome.fault


def test_a_full_disk_at_every_call(tmp_path: Path, done: Path) -> None:
    clean = trial(SCENARIO + "whole", tmp_path)
    faults = [Fault(at, "errno", errno.ENOSPC, onward=on) for at in range(1, clean.calls + 1) for on in (False, True)]
    outcomes = trials(SCENARIO + "whole", tmp_path, faults)
    assert {outcome.error["code"] for outcome in outcomes if outcome.error} <= {"V701", "V702"}
    assert any(outcome.error for outcome in outcomes)
    assert_goes_on(outcomes, done)


@pytest.mark.prove
@pytest.mark.parametrize("scenario", ["whole", "repaired"])
def test_every_error_at_every_call(tmp_path: Path, done: Path, scenario: str) -> None:
    faults = failures(trial(SCENARIO + scenario, tmp_path))
    assert_goes_on(trials(SCENARIO + scenario, tmp_path, faults), done)


def test_a_finished_job_is_left_as_it_is(done: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in done.iterdir() if path.name != ".lock"}
    assert answer(done) is True
    assert {path.name: path.stat().st_mtime_ns for path in done.iterdir() if path.name != ".lock"} == before


def spoil(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.unlink()
    if how == "one bit":
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif how == "a row less":
        path.write_bytes(data[: data.rstrip(b"\n").rindex(b"\n") + 1])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "another's":
        path.write_bytes((path.parent / JOB.name(0)).read_bytes())
    elif how == "a link":
        (path.parent / "elsewhere").write_bytes(data)
        path.symlink_to("elsewhere")
    else:
        assert how == "gone"


@pytest.mark.parametrize("how", ["one bit", "a row less", "empty", "another's", "a link", "gone"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_damaged_shard_is_made_again(done: Path, how: str, finished: bool) -> None:
    wanted = contents(done)
    if not finished:
        (done / SUMMARY).unlink()  # nothing is known of the other shards either: they are made again
    spoil(done / JOB.name(1), how)
    answer(done)
    (done / "elsewhere").unlink(missing_ok=True)
    assert contents(done) == wanted
    assert not (done / JOB.name(1)).is_symlink()


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"job": 1}', b'{"shards": [{"name": "x"}], "job": "y"}'])
def test_a_damaged_summary_is_written_again(done: Path, text: bytes) -> None:
    wanted = contents(done)
    (done / SUMMARY).write_bytes(text)
    assert answer(done) is False
    assert contents(done) == wanted


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"top": 1}, "top: 2 there, 1 here"),
        ({"model": "other"}, "model: sums there, other here"),
        ({"batch": 7}, "batch: 2 there, 7 here"),
        ({"policy": {**JOB.policy, "crop": 0.5}}, "policy.crop: 1.0 there, 0.5 here"),
        ({"source": "more", "pictures": 10}, "pictures: 9 there, 10 here"),
    ],
)
def test_another_job_is_refused_with_the_difference(done: Path, change: dict[str, object], line: str) -> None:
    before = contents(done)
    with pytest.raises(RunError) as caught:
        answer(done, replace(JOB, **change))
    assert caught.value.code == "V602" and line in caught.value.evidence
    assert pinned_engine(done) == "sums"
    assert contents(done) == before


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff"])
def test_a_damaged_pin_is_refused(done: Path, text: bytes) -> None:
    (done / NAME).write_bytes(text)
    assert pinned_engine(done) is None
    with pytest.raises(RunError) as caught:
        answer(done)
    assert caught.value.code == "V604"


def test_what_lies_there_already_is_refused(tmp_path: Path, done: Path) -> None:
    (done / "part-000000-of-000001.csv").write_text("strange rows\n")
    with pytest.raises(UsageError) as caught:
        answer(done)
    assert caught.value.code == "V006" and caught.value.evidence == ("part-000000-of-000001.csv",)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("a file")
    for name in ("full", "file"):
        with pytest.raises(UsageError) as caught:
            answer(tmp_path / name)
        assert caught.value.code == "V006"
    assert os.listdir(tmp_path / "full") == ["letter.txt"]


@pytest.mark.parametrize("place", ["/proc/predictions", "/dev/null/out"])
def test_a_place_that_cannot_be_written(place: str) -> None:
    with pytest.raises(SystemFault) as caught:
        answer(Path(place))
    assert caught.value.code == "V701"


def test_too_many_shards_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        answer(tmp_path / "out", replace(JOB, pictures=10**6, shard_rows=10))
    assert caught.value.code == "V007" and "--shard-rows 20" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_another_process_at_it_is_refused(done: Path) -> None:
    from vitrail.predictions.job import held

    with held(done, JOB), pytest.raises(RunError) as caught:
        answer(done)
    assert caught.value.code == "V606"


def test_parquet_holds_the_same_rows_as_csv(tmp_path: Path, done: Path) -> None:
    from pyarrow import csv, parquet

    job = Job(**{**vars(JOB), "format": "parquet"})
    answer(tmp_path / "parquet", job)
    answer(tmp_path / "again", job)
    assert contents(tmp_path / "parquet") == contents(tmp_path / "again")
    for number in range(JOB.shards):
        rows = parquet.read_table(tmp_path / "parquet" / job.name(number)).to_pylist()
        options = csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=True)
        assert rows == csv.read_csv(done / JOB.name(number), convert_options=options).to_pylist()
        assert len(rows) == len(JOB.rows(number))
