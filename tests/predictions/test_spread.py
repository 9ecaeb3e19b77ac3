"""`vitrail predict --out`: the same rows by one process and many, at any batch and number of threads, after a stop."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vitrail
from tests.predictions.asked import BAD, bundle, contents, pictures
from tests.predictions.kills import HOW
from vitrail.cli import run
from vitrail.errors import Stopped, UsageError
from vitrail.pictures.predict import Failed
from vitrail.predictions.ray import _claim, spread
from vitrail.verbs.predict_shards import predict_shards

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ("--shard-rows", "3", "--batch", "2", "--top", "3")  # as HOW
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle, pictures, and their shards by one process that nobody stopped; torch's bits are those of one thread."""
    place = tmp_path_factory.mktemp("predictions")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    bundle(place)
    pictures(place / "pictures")
    predict_shards(place / "run" / "bundle", place / "pictures", place / "one", HOW)
    yield place
    torch.set_num_threads(threads)


def rows(folder: Path) -> Rows:
    texts = [path.read_bytes().decode() for path in sorted(folder.glob("part-*"))]
    return [row for text in texts for row in csv.DictReader(io.StringIO(text, newline=""))]


def started(place: Path, *lead: str, out: str, more: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *lead, "predict", str(place / "run" / "bundle"), str(place / "pictures")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command += ["--out", str(place / out), *OPTIONS, *more]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300)


def test_a_row_a_picture_in_the_order_of_the_source(place: Path) -> None:
    found = rows(place / "one")
    paths = [row["path"] for row in found]
    assert len(found) == 60 + len(BAD) and len(set(paths)) == len(paths)
    raw = [path.replace("\\udcff", "\udcff") for path in paths]
    assert raw == sorted(raw, key=os.fsencode)
    assert {path: row["error"] for path, row in zip(raw, found, strict=True) if row["error"]} == BAD
    assert len(contents(place / "one")) == 22 + 2


def test_the_rows_are_what_predict_answers(place: Path) -> None:
    """The single-shot form is another way through the same pictures, one after the other."""
    found = rows(place / "one")
    files = [place / "pictures" / row["path"].replace("\\udcff", "\udcff") for row in found]
    answers = vitrail.predict(place / "run" / "bundle", files, top=3, batch=1)
    for row, answer in zip(found, answers, strict=True):
        if isinstance(answer, Failed):
            assert (row["error"], row["class_1"]) == (answer.error.code, "")
            continue
        assert [row[f"class_{rank}"] for rank in (1, 2, 3)] == list(answer.classes)
        stated = [float(row[f"probability_{rank}"]) for rank in (1, 2, 3)]
        assert stated == pytest.approx(answer.probabilities, abs=1e-6)


@pytest.mark.parametrize("change", [{"workers": 0}, {"workers": 5}, {"batch": 64}, {"batch": 1}, {"shard_rows": 65}])
def test_threads_batches_and_shards_change_no_row(place: Path, tmp_path: Path, change: dict[str, int]) -> None:
    predict_shards(place / "run" / "bundle", place / "pictures", tmp_path / "out", replace(HOW, **change))
    if "workers" in change:
        assert contents(tmp_path / "out") == contents(place / "one")
    ours, theirs = rows(tmp_path / "out"), rows(place / "one")
    assert [row["path"] for row in ours] == [row["path"] for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert {key: one[key] for key in one if "prob" not in key} == {
            key: other[key] for key in one if "prob" not in key
        }
        for key in ("probability_1", "probability_2", "probability_3"):
            assert one[key] == other[key] or float(one[key]) == pytest.approx(float(other[key]), abs=1e-6)


def killed(place: Path, folder: Path, count: int) -> None:
    words = [str(place / "run" / "bundle"), str(place / "pictures"), str(folder), str(count), "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.predictions.kills", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    kills = json.loads(done.stdout.splitlines()[-1])
    assert sum(kills) >= count
    for number in range(len(kills)):
        assert contents(folder / f"killed-{number}") == contents(place / "one")


def test_killed_at_random_moments(place: Path, tmp_path: Path) -> None:
    killed(place, tmp_path, 5)


@pytest.mark.prove
def test_killed_a_hundred_times(place: Path, tmp_path: Path) -> None:
    killed(place, tmp_path, 100)


def signalling(number: signal.Signals, share: float) -> Callable[[int, int], None]:
    """Sends this process a signal once that share of the pictures is answered: a second one would end it at once."""
    waiting = [number]

    def progress(done: int, total: int) -> None:
        if waiting and done >= share * total:
            os.kill(os.getpid(), waiting.pop())

    return progress


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_well(place: Path, tmp_path: Path, number: signal.Signals) -> None:
    with pytest.raises(Stopped, match=r"11 of 22 shards stand") as caught:
        predict_shards(
            place / "run" / "bundle", place / "pictures", tmp_path / "out", HOW, progress=signalling(number, 0.5)
        )
    assert caught.value.exit_code == 75
    done = predict_shards(place / "run" / "bundle", place / "pictures", tmp_path / "out", HOW)
    assert (done.made, done.stood, contents(tmp_path / "out")) == (11, False, contents(place / "one"))


def test_two_processes_of_torchrun_give_the_same_bytes(place: Path) -> None:
    """They go on with what one process began. torchrun ends by 1 where rank 0 ends by 2, for the bad pictures."""
    with pytest.raises(Stopped):
        predict_shards(
            place / "run" / "bundle", place / "pictures", place / "two", HOW, progress=signalling(signal.SIGTERM, 0.0)
        )
    lead = ("torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "-m")
    done = started(place, *lead, "vitrail", out="two")
    assert done.returncode == 1 and "exitcode  : 2" in done.stderr, done.stderr[-3000:]
    assert done.stdout.count("65 rows, 5 of them bad in 22 shards") == 1
    assert contents(place / "two") == contents(place / "one")


def test_two_workers_of_ray_give_the_same_bytes(place: Path) -> None:
    done = started(place, "vitrail", out="by_ray", more=["--ray", "2", "--json"])
    assert done.returncode == 2, done.stderr[-3000:]
    assert json.loads(done.stdout)["made"] == 22
    assert contents(place / "by_ray") == contents(place / "one")


def test_ray_absent_or_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="claims 3 CPUs, the cluster has 2"):
        _claim({"CPU": 2.0}, 3, gpu=False)
    assert _claim({"CPU": 2.0, "GPU": 1.0}, 1, gpu=True) == {"num_cpus": 0, "num_gpus": 1}
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="needs ray") as caught:
        next(spread(lambda: lambda number: number, [0], 1, gpu=False))
    assert caught.value.code == "V003" and "vitrail[ray]" in caught.value.hint


@pytest.mark.prove
@pytest.mark.parametrize("victim", ["the command", "a worker"])
def test_ray_stopped_and_robbed_of_a_worker(place: Path, tmp_path: Path, victim: str) -> None:
    """SIGTERM ends it by 75, as without Ray; a worker that is killed is replaced, and stdout is the result alone."""
    words = ["predict", str(place / "run" / "bundle"), str(place / "pictures"), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "vitrail", *words, *OPTIONS, "--ray", "2", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=place, env=environment, stdout=-1, stderr=-1, text=True) as process:
        while process.poll() is None and len(list((tmp_path / "out").glob("part-*"))) < 2:
            time.sleep(0.01)
        workers = [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if b"ray::MapWorker" in path.read_bytes()
        ]
        if victim == "a worker":
            os.kill(min(workers), signal.SIGKILL)
        else:
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=300)
    if victim == "a worker":
        assert process.returncode == 2 and json.loads(out)["shards"] == 22, err
    else:
        assert process.returncode == 75 and "stopped by SIGTERM" in err, err
        predict_shards(place / "run" / "bundle", place / "pictures", tmp_path / "out", HOW)
    assert contents(tmp_path / "out") == contents(place / "one")


def test_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", str(place / "run" / "bundle"), str(place / "pictures"), "--out", str(place / "cli"), *OPTIONS]
    assert run([*words, "--json"]) == 2
    said = capsys.readouterr()
    values = json.loads(said.out)
    assert (values["pictures"], values["bad"], values["shards"], values["made"]) == (65, 5, 22, 22)
    assert "part-000021-of-000022.csv: 2 pictures (65 of 65)" in said.err
    assert run(words) == 0
    assert "65 rows, 5 of them bad in 22 shards" in (out := capsys.readouterr().out) and "finished before" in out
    assert run([*words, "--top", "1"]) == 2
    assert "top: 3 there, 1 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "parquet"], "--format is of shards"),
        (["--shard-rows", "5"], "--shard-rows is of shards"),
        (["--out", "x", "--csv"], "--csv prints rows"),
        (["another", "--out", "x"], "--out takes one source, 2 are given"),
        (["--out", "x", "--shard-rows", "1000000"], "shard_rows is 1000000"),
    ],
)
def test_options_that_do_not_go_together(
    place: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(place / "run" / "bundle"), str(place / "pictures"), *words]) == 2
    assert said in capsys.readouterr().err


def test_shards_do_not_lie_among_the_pictures(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place / "pictures"
    assert run(["predict", str(place / "run" / "bundle"), str(folder), "--out", str(folder / "more" / "out")]) == 2
    assert "error[V007]" in capsys.readouterr().err and not (folder / "more" / "out").exists()


def test_a_model_of_torch_and_one_that_means_nothing(place: Path, tmp_path: Path) -> None:
    done = predict_shards(place / "run", place / "pictures", tmp_path / "out", replace(HOW, engine="torch"))
    assert (done.job.engine, done.job.device, done.bad) == ("torch", "cpu", 5)
    with pytest.raises(UsageError) as caught:
        predict_shards("cct_2_3x2_32", place / "pictures", tmp_path / "random", HOW)
    assert caught.value.code == "V005" and not (tmp_path / "random").exists()
