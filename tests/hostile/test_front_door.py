"""What holds for every container alike: nothing runs, nothing grows, names are one each, the hash comes first."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.hostile import items
from tests.hostile.deeds import Deed, deeds
from tests.hostile.forked import forking
from tests.hostile.items import ITEMS, matching
from tests.hostile.mutants import READERS
from vitrail.errors import VitrailError
from vitrail.formats import (
    hdf5,
    keras_zip,
    kinds,
    mindspore,
    npz,
    read_tensors,
    safetensors,
    sharded,
    state_dict,
    tensorflow,
)

ALONE = ("safetensors", "npz", "torch_zip", "torch_legacy", "mindspore", "hdf5", "keras_zip")
CHILD = {"socket.sendmsg"}  # the order to the process that forks
SPARE = 4 << 20  # what the interpreter takes beside the reader, which is measured with it


def read(name: str, path: Path, memory: int = 80 << 20) -> tuple[VitrailError, list[Deed]]:
    """The refusal of an item and what was done meanwhile; whatever is imported at first use is imported before."""
    with contextlib.ExitStack() as stack:
        if items.hdf5_inside(name):
            stack.enter_context(forking())
        with contextlib.suppress(VitrailError):
            read_tensors(path)
        seen = stack.enter_context(deeds(memory))
        with pytest.raises(VitrailError) as caught:
            read_tensors(path)
    return caught.value, seen


# Every item that carries code, names some, or would have a library load some.
CODE = matching(
    r"os\.system|eval|exec|getattr|dotted|torch\.|class|EXT|PERSID|BUILD|REDUCE|pickle|a call|call inside|TorchScript|"
    r"builder|namespace|a module|codec|records|objects|filter|external|virtual|soft link|code|random state|type as|"
    r"keras_zip|itself|URL|hooks|sparse|subclass|quantised|nested tensor|meta\b|device tensor|tar"
)


@pytest.mark.parametrize("name", CODE)
def test_C01_nothing_in_the_file_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where a canary would appear
    path = ITEMS[name](tmp_path)
    before = sorted(os.listdir(tmp_path))
    error, seen = read(name, path)
    assert {event for event, _ in seen} <= {"open"} | (CHILD if items.hdf5_inside(name) else set())
    mine = {str(path), str(tmp_path), "m.data-00000-of-00001"}
    assert {what for event, what in seen if event == "open" and not what.isdecimal()} <= mine
    assert sorted(os.listdir(tmp_path)) == before
    assert error.hint


def test_C01_list_is_broad() -> None:
    assert len(CODE) >= 60
    assert {name.partition(":")[0] for name in CODE} == {*items.CONTAINERS}


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_C01_the_kernel_saw_nothing_but_the_files(tmp_path: Path) -> None:
    """Every item but those that start a child, read by one process under strace."""
    paths = []
    for number, (name, lay) in enumerate(ITEMS.items()):
        folder = tmp_path / str(number)
        if items.hdf5_inside(name):
            continue
        folder.mkdir()
        path = lay(folder)
        if items.total(folder) < 2 << 20:
            paths.append(path)
    (tmp_path / "list").write_text("\n".join(map(str, paths)))
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from vitrail.errors import VitrailError
        from vitrail.formats import read_tensors
        paths = [Path(line) for line in open(sys.argv[1]).read().splitlines()]
        for _ in range(2):  # once for what is imported at first use, and once between two looks at the list
            for path in paths:
                try:
                    read_tensors(path)
                except VitrailError:
                    print("refused")
            open(sys.argv[1]).close()
    """)
    log = tmp_path / "log"
    done = subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-qq", "-o", log,
         "-e", "trace=openat,open,openat2,creat,execve,execveat,socket,connect,unlink,rename,mkdir",
         sys.executable, "-c", script, tmp_path / "list"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.split() == ["refused"] * 2 * len(paths)
    lines = log.read_text().splitlines()
    assert sum("execve(" in line and " = -1 " not in line for line in lines) == 1
    looks = [at for at, line in enumerate(lines) if f'"{tmp_path / "list"}"' in line]
    watched = lines[looks[-2] + 1 : looks[-1]]
    assert len(watched) >= len(paths)
    known = {f'"{path}"' for path in paths} | {f'"{path.parent}"' for path in paths}
    known |= {'"m.data-00000-of-00001"', '"a.safetensors"', '"b.safetensors"'}
    for line in watched:
        assert "open" in line and line.split(", ")[1] in known, line


# Every item that declares much more than it holds, or unpacks to much, or is many.
HUGE = matching(
    r"2\^\d|10\^\d|GiB|MiB|TiB|4 GB|illion|1000 times|bomb|overflow|00,?000|66,?000|300,?000|expan|expansion|"
    r"gzip|never written|1 TiB|nest|zero hides|10 MB|5000|chunks|copies of one"
)


@pytest.mark.parametrize("name", HUGE)
def test_C07_what_is_declared_is_not_allocated(name: str, tmp_path: Path) -> None:
    path = ITEMS[name](tmp_path)
    error, _ = read(name, path, (64 << 20) + SPARE + min(items.total(tmp_path), 16 << 20))
    assert error.code in ("V201", "V202", "V206")


def test_C07_list_is_broad() -> None:
    assert len(HUGE) >= 40


# Names that stand twice, hide one another, differ by case, or have no place: what the refusal must name.
NAMES: dict[str, tuple[str, ...]] = {
    "safetensors: name twice, same range": ("`a`", "twice"),
    "safetensors: name twice, other range": ("`a`", "twice"),
    "safetensors: name twice by escape": ("`a`", "twice"),
    "safetensors: dtype twice": ("dtype", "twice"),
    "safetensors: key too much": ("x",),
    "safetensors: metadata key twice": ("`a`", "twice"),
    "safetensors: names equal but for case": ("`a`", "`A`"),
    "npz: name twice": ("two members", "w.npy"),
    "npz: names equal but for case": ("w.npy", "W.npy"),
    "npz: a name with the ending twice hides one": ("w.npy", "collide"),
    "torch_zip: two data.pkl of one name": ("a/data.pkl", "two members"),
    "torch_zip: two data.pkl in two folders": ("2 members", "data.pkl"),
    "torch_zip: storage twice": ("a/data/0", "two members"),
    "torch_zip: names equal but for case": ("a/version", "a/VERSION"),
    "torch_zip: tensor names equal but for case": ("`w`", "`W`"),
    "torch_zip: a key twice": ("w", "twice"),
    "torch_zip: foreign member": ("a/x.py",),
    "torch_legacy: storage listed twice": ("0",),
    "torch_legacy: tensor names equal but for case": ("`w`", "`W`"),
    "mindspore: name twice": ("`w`", "twice"),
    "mindspore: names equal but for case": ("`w`", "`W`"),
    "mindspore: name of a note equal but for case": ("w", "W"),
    "tensorflow: a key twice": ("a", "twice"),
    "tensorflow: names equal but for case": ("`a`", "`A`"),
    "hdf5: hard link twice": ("`b`", "another name"),
    "hdf5: names equal but for case": ("`a`", "`A`"),
    "hdf5: a name twice": ("a",),
    "index: tensor twice": ("w",),
    "index: tensor twice by escape": ("w",),
    "index: weight_map twice": ("weight_map",),
    "index: tensors equal but for case": ("`w`", "`W`"),
    "index: files equal but for case": ("a.safetensors", "A.safetensors"),
}


@pytest.mark.parametrize("name", NAMES)
def test_C08_names_that_collide_are_named(name: str, tmp_path: Path) -> None:
    error, _ = read(name, ITEMS[name](tmp_path))
    text = "\n".join((error.what, *error.evidence))
    assert error.code in ("V201", "V202")
    assert [word for word in NAMES[name] if word not in text] == [], text


def test_C08_every_container_is_there() -> None:
    assert {name.partition(":")[0] for name in NAMES} >= {*items.CONTAINERS} - {"keras_zip"}  # in test_keras_zip.py


# What a wrong hash must never reach: every way into a parser.
ENTRIES = [
    (kinds, "kind_of"), (safetensors, "parse"), (npz, "parse"), (state_dict, "parse"), (mindspore, "parse"),
    (hdf5, "parse"), (keras_zip, "parse"), (tensorflow, "parse"), (sharded, "parse"),
]  # fmt: skip


@pytest.mark.parametrize("what", ["honest", "hostile", "hostile too", "empty", "of half its bytes"])
@pytest.mark.parametrize("container", ALONE)
def test_C10_a_wrong_hash_reaches_no_parser(
    container: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = READERS[container].seeds()[0]
    path = READERS[container].place(tmp_path, seed.file(seed.body))
    if what.startswith("hostile"):
        bad = [name for name in ITEMS if name.startswith(container)]
        (tmp_path / "bad").mkdir()
        path = ITEMS[bad[len(bad) // 3 if what == "hostile" else -1]](tmp_path / "bad")
    elif what != "honest":
        os.truncate(path, path.stat().st_size // 2 if what != "empty" else 0)
    entered: list[str] = []
    for module, function in ENTRIES:
        monkeypatch.setattr(module, function, lambda *_, at=module.__name__: entered.append(at))
    with deeds() as seen, pytest.raises(VitrailError, match="SHA-256") as caught:
        read_tensors(path, sha256="0" * 64)
    assert caught.value.code == "V201"
    assert not entered
    assert seen == [("open", str(path))]
