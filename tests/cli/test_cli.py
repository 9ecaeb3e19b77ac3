"""The command line as its users meet it: results on stdout, talk on stderr, coded errors, exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitrail
from tests.verbs.small import small
from vitrail.cli import run
from vitrail.verbs.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    train(small(), out=folder)
    return folder


def fails(capsys: pytest.CaptureFixture[str], code: str, *words: str, exit_code: int = 2) -> str:
    assert run(list(words)) == exit_code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error[{code}]: ") and "Traceback" not in err
    return err


def test_version_and_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert vitrail.__version__ in capsys.readouterr().out
    assert run(["--help"]) == 0
    assert "evaluate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "words", "hint"),
    [
        ("V001", ["trian"], "did you mean `train`?"),
        ("V001", ["train", "--modle", "x"], "did you mean `--model`?"),
        ("V001", ["train"], "show recipes"),
        ("V001", ["predict", "m"], "--help"),
        ("V001", ["train", "a", "b"], "overrides hold"),
        ("V101", ["train", "digits/cct_2_3x2_32", "train.sed=1"], "show RECIPE"),
        ("V102", ["train", "digits/cct_2_3x2_3"], "digits/cct_2_3x2_32"),
        ("V002", ["predict", "cct_2_3x2_3", "x.png"], "cct_2_3x2_32"),
        ("V002", ["show", "modls"], "did you mean `models`?"),
        ("V005", ["evaluate", "cct_2_3x2_32", "--data", "digits"], "train it first"),
        ("V402", ["train", "--model", "cct_2_3x2_32", "--data", "/nothing/here"], "one folder of pictures per class"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], code: str, words: list[str], hint: str) -> None:
    assert hint in fails(capsys, code, *words)


def test_training_wants_two_classes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "photos" / "only").mkdir(parents=True)
    for index in range(40):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "only" / f"{index}.png")
    words = ["train", "--model", "cct_2_3x2_32", "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]
    assert run(words) == 2
    assert "holds one class, `only`" in capsys.readouterr().err
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_formats_exclude_each_other(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    assert "exclude" in fails(capsys, "V001", "predict", str(trained), "x.png", "--json", "--csv")


def test_resume_of_nothing_says_where(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no run lies in" in fails(capsys, "V001", "train", "--resume", "--out", str(tmp_path / "none"))
    assert "needs --out" in fails(capsys, "V001", "train", "--resume")


def test_no_words_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: vitrail")


def test_odd_names_reach_the_verb_and_the_terminal_whole(
    capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path
) -> None:
    place = tmp_path / "p😀 'x'"
    fails(capsys, "V402", "train", "--model", "cct_2_3x2_32", "--data", str(place))
    place.mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    odd = os.fsencode(place) + b"/caf\xe9\x1b[31m.png"
    os.rename(tmp_path / "a.png", odd)
    assert run(["predict", str(trained), str(place)]) == 0
    out = capsys.readouterr().out
    assert "caf\\udce9\\x1b[31m.png" in out
    out.encode("utf-8")
    assert run(["predict", str(trained), str(place), "--csv"]) == 0
    capsys.readouterr().out.encode("utf-8")


def test_evaluate_a_run_on_its_own_pictures(capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path) -> None:
    table = tmp_path / "predictions.csv"
    assert run(["evaluate", str(trained), "--out", str(table)]) == 0
    out = capsys.readouterr().out
    assert "of 355 pictures" in out and "95 % interval" in out
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert len(rows) == 355 and {row["correct"] for row in rows} <= {"True", "False"}
    assert run(["evaluate", str(trained), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["part"] == "held-out" and values["correct"] == sum(row["correct"] == "True" for row in rows)


def test_evaluate_takes_the_held_out_part_of_what_it_was_trained_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, colour in (("red", (250, 0, 0)), ("blue", (0, 0, 250))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", (20, 20), (colour[0], index, colour[2])).save(tmp_path / "photos" / name / f"{index}.png")
    photos, folder = str(tmp_path / "photos"), str(tmp_path / "run")
    words = ["train", "folder/scratch", "--model", "cct_2_3x2_32", "--data", photos, "--out", folder]
    tiny = [
        "model.image_size=16",
        "model.dim=16",
        "model.conv_width=8",
        "schedule.epochs=8",
        "data.batch=4",
        "precision=fp32",
    ]
    assert run([*words, *tiny, "schedule.lr=3.0e-3", "mix=null", "train.attention=explicit"]) == 0
    capsys.readouterr()
    assert run(["evaluate", folder, "--data", photos, "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held["part"] == "held-out" and held["pictures"] == 4
    assert run(["evaluate", folder, "--data", photos, "--part", "all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 20
    # other pictures of the same classes, in another order, and a stranger
    (tmp_path / "photos" / "blue").rename(tmp_path / "blue")
    (tmp_path / "other" / "blue").mkdir(parents=True)
    Image.new("RGB", (30, 10), (0, 0, 255)).save(tmp_path / "other" / "blue" / "a.png")
    assert run(["evaluate", folder, "--data", str(tmp_path / "other"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 1
    (tmp_path / "other" / "blue").rename(tmp_path / "other" / "green")
    assert "only in the data: green" in fails(capsys, "V403", "evaluate", folder, "--data", str(tmp_path / "other"))


def test_a_recipe_shows_a_sheet_of_its_pictures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = tmp_path / "all.yaml"
    recipe.write_text(
        "model: {variant: cct_2_3x2_32}\ndata: {source: digits}\nschedule: {name: cosine, epochs: 1, lr: 1.0e-3}\n"
        "augment: {crop: {name: random_resized}, auto: rand-m9-n4-p1-inc1, erase: {probability: 1.0, mode: pixel}}\n"
    )
    assert run(["show", str(recipe), "--pictures", str(tmp_path / "one")]) == 0
    assert run(["show", str(recipe), "--pictures", str(tmp_path / "two"), "--data", "digits"]) == 0
    sheets = [tmp_path / name / "augmented.png" for name in ("one", "two")]
    assert capsys.readouterr().out.split() == [str(sheet) for sheet in sheets]
    assert sheets[0].read_bytes() == sheets[1].read_bytes()
    with Image.open(sheets[0]) as sheet:
        assert sheet.size == (8 * 132 + 4, 8 * 132 + 4)
        tiles = [np.asarray(sheet.crop((4 + 132 * c, 4, 132 + 132 * c, 132))) for c in range(8)]
    assert all(np.abs(tile.astype(int) - tiles[0]).mean() > 5 for tile in tiles[1:])
    assert run(["show", "folder/scratch", "--pictures", str(tmp_path / "three")]) == 2


def test_predict_names_pictures_and_lists_bad_ones(
    capsys: pytest.CaptureFixture[str], trained: Path, tmp_path: Path
) -> None:
    assert run(["show", "digits", "--pictures", str(tmp_path / "digits")]) == 0
    written = capsys.readouterr().out.split()
    assert len(written) == 12
    assert run(["predict", str(trained), str(tmp_path / "digits"), "--top", "2", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [len(answer["classes"]) for answer in answers] == [2] * 12
    assert run(["evaluate", str(trained), "--out", str(tmp_path / "all.csv")]) == 0
    capsys.readouterr()
    evaluated = {
        row["name"]: row["prediction"] for row in csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text()))
    }
    for answer in answers:
        assert answer["classes"][0]["class"] == evaluated[Path(answer["picture"]).stem.split("-is-")[0]]
    (tmp_path / "digits" / "bad.png").write_bytes(b"")
    assert run(["predict", str(trained), str(tmp_path / "digits"), "--csv"]) == 2
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["picture"] for row in rows if row["error"]] == [str(tmp_path / "digits" / "bad.png")]
    assert len(rows) == 12 * 5 + 1
    assert run(["predict", str(trained), str(tmp_path / "digits" / "*is-3.png")]) == 0
    assert "█" in capsys.readouterr().out
    fails(capsys, "V004", "predict", str(trained), str(tmp_path / "*.gif"))


@pytest.mark.parametrize("subject", ["models", "recipes", "datasets", "digits/cct_2_3x2_32", "cct_7_3x1_32", "digits"])
def test_show(capsys: pytest.CaptureFixture[str], subject: str) -> None:
    assert run(["show", subject]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 3
    assert run(["show", subject, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_show_what_a_run_made(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    newest = max((trained / "checkpoints").glob("step-????????"))
    for subject in (trained, trained / "bundle", newest):
        assert run(["show", str(subject), "--json"]) == 0
        values = json.loads(capsys.readouterr().out)
        assert values["parameters"] > 1000 and values["class_names"] == list("0123456789")
    assert run(["show", str(trained / "recipe.yaml")]) == 0
    assert "threads: 1" in capsys.readouterr().out


def test_a_bug_is_one_line_and_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(subject: str) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("vitrail.verbs.show.show", broken)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert run(["show", "models"]) == 70
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "a bug of ours" in err
    (report,) = tmp_path.glob("vitrail-bug-*.txt")
    assert "ZeroDivisionError: oops" in report.read_text()


@pytest.mark.parametrize("flag", [["--strict"], ["--allow-drift", "torch"]])
def test_what_is_of_a_resume_wants_one(flag: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, "V001", "train", "digits/cct_2_3x2_32", "--out", str(tmp_path / "run"), *flag)
    assert f"{flag[0]} is of a resumed run" in said
    assert not (tmp_path / "run").exists()


def test_a_closed_stdout_is_no_fault(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for words in (["show", "models"], ["predict", str(trained), str(tmp_path / "a.png"), "--json"]):
        monkeypatch.setattr("sys.stdout", None)  # as Python has it after `>&-`
        assert run(words) == 0
    assert "internal error" not in capsys.readouterr().err


def test_a_full_stdout_is_named() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "vitrail", "show", "models"], stdout=full, stderr=subprocess.PIPE)
    assert done.stderr.startswith(b"error[V701]: cannot write `what is printed`: No space left on device")
    assert done.returncode == 4


def test_a_reader_who_leaves_ends_nothing_but_the_result() -> None:
    """click would say 1 and nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "vitrail", "show", "models"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], []])
def test_help_that_nobody_reads_is_no_fault(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "vitrail", *words], stdout=writer, stderr=writer)
    os.close(writer)
    assert done.returncode == (0 if words else 2)


@pytest.mark.parametrize("left", ["stdout", "stderr"])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_rows_are_written_though_nobody_reads_how_it_goes(
    trained: Path, tmp_path: Path, left: str, as_json: list[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    rows = tmp_path / "rows.csv"
    words = ["evaluate", str(trained), "--every", "1", "--out", str(rows), *as_json]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, left: writer}
    done = subprocess.run([sys.executable, "-m", "vitrail", *words], **streams)  # type: ignore[call-overload]
    os.close(writer)
    assert done.returncode == 0
    assert len(rows.read_text().splitlines()) > 300


def test_with_all_streams_closed_no_file_takes_their_numbers(tmp_path: Path) -> None:
    """Or what a library says to stderr would stand in it."""
    code = (
        "import os, sys; [os.close(n) for n in (0, 1, 2)]; sys.stdin = sys.stdout = sys.stderr = None\n"
        "from vitrail.cli import run; run(['--version'])\n"
        f"open({str(tmp_path / 'number')!r}, 'w').write(str(os.open(os.devnull, os.O_RDONLY)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert int((tmp_path / "number").read_text()) > 2


@pytest.mark.parametrize(("words", "code"), [((), 0), (("loss.smoothing=nan",), 2)])
def test_a_run_goes_on_when_nobody_hears_it(words: tuple[str, ...], code: int, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    few = ["schedule.steps=2", "schedule.warmup_epochs=0", "train.threads=1", *words]
    line = [sys.executable, "-m", "vitrail", "train", "digits/cct_2_3x2_32", *few, "--out", str(tmp_path / "run")]
    done = subprocess.run(line, stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    assert done.returncode == code
    assert (tmp_path / "run/bundle/manifest.json").is_file() == (code == 0)


def test_an_empty_name_is_no_picture(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "empty text" in fails(capsys, "V004", "predict", str(trained), "")


def test_a_bundle_is_named_with_what_is_wrong_in_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{")
    assert str(tmp_path / "bundle") in fails(capsys, "V501", "show", str(tmp_path / "bundle"))


def test_the_best_checkpoint_opens_by_its_name(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for name in ("latest", (trained / "checkpoints" / "latest").read_text().strip()):
        assert run(["show", str(trained / "checkpoints" / name), "--json"]) == 0
        shown.append({**json.loads(capsys.readouterr().out), "name": ""})
    assert shown[0] == shown[1] and shown[0]["checkpoint"]["step"] > 0


@pytest.mark.parametrize("words", [["--batch", "100000"], ["--threads", "100000"]])
def test_a_benchmark_has_bounds(trained: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert "at most 65,536 pictures and 1,024 threads" in fails(capsys, "V007", "benchmark", str(trained), *words)


def test_a_picture_size_that_no_bundle_may_have(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "4,096" in fails(capsys, "V007", "export", str(trained), "--image-size", "9000")
