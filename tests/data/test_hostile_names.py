"""Names of files are bytes: whatever they hold, the commands work, say them on one line, and give them back (B7, HD 6).

Also what lies in class folders beside pictures: HD 1 to 5, 12, 13.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from tests.data.layouts import class_folders, png
from tests.verbs.small import small
from vitrail.cli import run
from vitrail.data.configs import Data
from vitrail.data.sources import index, open_source
from vitrail.errors import DataError, printable
from vitrail.verbs.train import train

NAMES: dict[str, bytes] = {
    "blank": b"a b",
    "blank at the ends": b" a ",
    "quote": b'it\'s "quoted"',
    "newline": b"a\nerror[V999]: forged\n",
    "carriage return": b"a\rb",
    "tab": b"a\tb",
    "percent": b"%s%n%(x)s",
    "braces": b"{0}{name}",
    "semicolon": b"a;b",
    "shell": b"$(touch PWNED)`touch PWNED`|&>x",
    "wildcard": b"*[a-z]?",
    "leading dash": b"--help",
    "255 bytes": b"x" * 255,
    "composed": "caf\u00e9".encode(),
    "decomposed": "cafe\u0301".encode(),
    "right to left": "a\u200f\u202egnp.exe".encode(),
    "emoji": "\U0001f600".encode(),
    "invalid UTF-8": b"\xff\xfe\xe9",
    "half a surrogate": b"\xed\xa0\x80",
    "escape sequence": b"\x1b[31mred\x1b[0m",
    "line separators": "a\u2028b\u2029c\x85d".encode(),
    "CON": b"CON",
    "NUL": b"NUL",
    "ends in a dot": b"a.",
    "backslash": b"x\\..\\y",
    "comma and markup": b"<script>alert(1)</script>, &amp;".replace(b"/", b"|"),
    "formula": b"=1+1",
    "colon and hash": b"a: b #c",
    "null": b"null",
    "number": b"007",
}


def cut(name: bytes, ending: bytes = b".png") -> bytes:
    """A file's name with a picture's ending, within what a disk takes."""
    return name[: 255 - len(ending)] + ending


def lay(root: Path, name: bytes) -> Path:
    """Two classes, one called so, each picture of it, too; the other is plain."""
    odd = os.path.join(os.fsencode(root), name)
    os.makedirs(odd)
    for number in range(3):
        with open(os.path.join(odd, cut(b"%d" % number + name)), "wb") as file:
            file.write(png(number))
    class_folders(root, {"plain": 3})
    return root


@pytest.mark.parametrize("kind", NAMES)
def test_B07_a_class_and_pictures_of_any_name(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "FROM", 1)
    monkeypatch.setattr(index, "SETTLED_NS", -(10**10))
    root = lay(tmp_path / "root", NAMES[kind])
    source, kept = (open_source(Data(root=str(root))) for _ in range(2))
    assert any("kept index" in note for note in kept.notes)
    assert set(source.classes) == {"plain", printable(os.fsdecode(NAMES[kind]))} and source.classes == kept.classes
    assert all(name.isprintable() for name in source.classes)
    files = {os.fsencode(source.title(at)) for at in range(6)}
    assert NAMES[kind] + b"/" + cut(b"0" + NAMES[kind]) in files
    assert [source.title(at) for at in range(6)] == [kept.title(at) for at in range(6)]
    assert all(source.read(at).shape == (7, 9, 3) for at in range(6))


def test_B07_names_that_are_one_when_printed_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a\nb": 2, "a\\nb": 2})
    with pytest.raises(DataError, match="look alike") as caught:
        open_source(Data(root=str(tmp_path)))
    assert caught.value.code == "V405"


def test_B07_names_that_differ_by_their_composition_alone_are_two(tmp_path: Path) -> None:
    class_folders(tmp_path, {"caf\u00e9": 2, "cafe\u0301": 2})
    assert len(open_source(Data(root=str(tmp_path))).classes) == 2


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """All of the names in one folder, two pictures unreadable, and a run trained on it."""
    root = tmp_path_factory.mktemp("zoo") / "photos\n\u202e%s"
    for kind, name in NAMES.items():
        odd = os.path.join(os.fsencode(root), b"odd" + name[:252])
        os.makedirs(odd)
        for number in range(4):
            with open(os.path.join(odd, cut(b"%d" % number + name)), "wb") as file:
                broken = kind in ("invalid UTF-8", "newline") and number == 2
                file.write(b"no picture" if broken else png(number))
    run_folder = root.parent / "run"
    recipe = small(
        "data.source=auto", f"data.root={json.dumps(str(root))}", "data.batch=30", "data.on_bad=skip",
        "data.bad_limit=0.1", "schedule.epochs=2", "data.holdout=0.5", "schedule.warmup_epochs=0",
    )  # fmt: skip
    train(recipe, out=run_folder)
    return root, run_folder


def one_line_each(text: str) -> None:
    """Nothing that a terminal or a reader of logs would take for another line or an order."""
    assert not any(line.startswith("error[V999]") for line in text.splitlines())
    assert all(c.isprintable() or c == "\n" for c in text), [c for c in text if not c.isprintable() and c != "\n"][:5]


def test_B07_train_writes_no_forged_line(zoo: tuple[Path, Path]) -> None:
    _, folder = zoo
    rows = [json.loads(line) for line in (folder / "journal.jsonl").read_bytes().split(b"\n") if line]
    assert all(isinstance(row, dict) for row in rows)
    for name in ("train.log", "recipe.yaml", "report.html"):
        text = (folder / name).read_text("utf-8")
        assert not any(line.startswith("error[V999]") for line in text.splitlines())
        assert "<script>alert(1)" not in text
    one_line_each((folder / "train.log").read_text("utf-8"))


def test_B07_evaluate(zoo: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, folder = zoo
    out = tmp_path / "rows.csv"
    assert run(["evaluate", str(folder), "--data", str(root), "--part", "all", "--out", str(out)]) == 0
    told = capsys.readouterr()
    one_line_each(told.out)
    one_line_each(told.err)
    rows = list(csv.DictReader(io.StringIO(out.read_bytes().decode(), newline="")))
    source = open_source(Data(root=str(root)))
    expected = {source.title(at).encode("utf-8", "backslashreplace").decode() for at in range(len(source.labels))}
    assert {row["name"] for row in rows} == expected and len(rows) == len(source.labels)
    assert run(["evaluate", str(folder), "--data", str(root), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert len(values["classes"]) == len(NAMES)


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_B07_predict(
    zoo: tuple[Path, Path],
    form: str | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    root, folder = zoo
    monkeypatch.chdir(tmp_path)  # where `touch PWNED` would land
    words = ["predict", str(folder), str(root), "--top", "1", *([form] if form else [])]
    assert run(words) == 2  # two of the pictures are none
    told = capsys.readouterr()
    one_line_each(told.err)
    count = 4 * len(NAMES)
    if form == "--json":
        rows = json.loads(told.out)
        files = {os.fsencode(row["picture"]) for row in rows}
        assert len(rows) == count and all(os.path.isfile(file) for file in files)
    elif form == "--csv":
        rows = list(csv.DictReader(io.StringIO(told.out, newline="")))
        assert len(rows) == count and sum(row["error"] != "" for row in rows) == 2
        one_line_each(told.out)
    else:
        one_line_each(told.out)
    assert not (tmp_path / "PWNED").exists()


def test_B07_a_picture_named_like_an_option(
    zoo: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = zoo
    (tmp_path / "--top.png").write_bytes(png())
    (tmp_path / "[a].png").write_bytes(png())  # a wildcard that exists as a file is that file
    monkeypatch.chdir(tmp_path)
    assert run(["predict", str(folder), "--", "--top.png", "[a].png"]) == 0


def test_B07_show(zoo: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, _ = zoo
    assert run(["show", str(root)]) == 0
    one_line_each(capsys.readouterr().out)
    assert run(["show", str(root), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["classes"]) == len(NAMES)
    assert run(["show", str(root), "--pictures", str(tmp_path / "out")]) in (0, 2)
    one_line_each(capsys.readouterr().out)
    assert all(path.name.isprintable() for path in (tmp_path / "out").iterdir())


def test_B07_errors_name_such_files_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a\nerror[V999]: forged").mkdir()
    assert run(["show", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    one_line_each(told)
    assert "V401" in told


# what lies in folders


def test_HD01_to_03_nothing_there(tmp_path: Path) -> None:
    for name, files in {"empty": [], "hidden": [".a.png", ".git/x"], "folders": ["cat/.x.png"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).parent.mkdir(exist_ok=True)
            (tmp_path / name / file).write_bytes(b"x")
        with pytest.raises(DataError) as caught:
            open_source(Data(root=str(tmp_path / name)))
        assert caught.value.code == "V401" and name in caught.value.what


def test_HD12_the_same_folder_twice(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 2, "dog": 2})
    with pytest.raises(DataError, match="the same place") as caught:
        open_source(Data(root=str(tmp_path), val=str(tmp_path)))
    assert caught.value.code == "V402"
    (tmp_path.parent / "link").unlink(missing_ok=True)
    (tmp_path.parent / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="the same place"):
        open_source(Data(root=str(tmp_path), val=str(tmp_path.parent / "link")))
