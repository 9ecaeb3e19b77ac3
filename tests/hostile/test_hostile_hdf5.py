"""Hostile HDF5 and Keras files: each is a typed refusal, and the child that reads them can reach nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest

from tests.hostile.deeds import deeds
from tests.hostile.forked import forked
from tests.hostile.hdf5_files import ITEMS, good
from vitrail.errors import VitrailError
from vitrail.formats import hdf5, keras_zip
from vitrail.formats.hdf5 import child, reading


def folder_with(name: str, folder: Path) -> Path:
    good(folder / "secret.h5")
    path = folder / "x.h5"
    here = Path.cwd()
    os.chdir(folder)  # names of other files are relative to somewhere
    try:
        ITEMS[name](path)
    finally:
        os.chdir(here)
    return path


def children() -> list[str]:
    """The processes of this one, the dead ones that were not waited for among them."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


REACHING = [name for name in ITEMS if any(word in name for word in ("external", "virtual", "filter", "soft"))]


@pytest.mark.parametrize("name", ITEMS)
def test_C06_hostile_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder_with(name, tmp_path)
    monkeypatch.setattr(reading, "TENSORS", 100)
    if name not in REACHING:
        monkeypatch.setattr(reading, "_spawned", forked)
    before = children()
    with deeds() as seen, pytest.raises(VitrailError) as caught:
        hdf5.read(path)
    files = {what for event, what in seen if event == "open" and not what.isdecimal()}
    assert files <= {str(path), "/dev/null"}
    assert {event for event, _ in seen} <= {"open", "subprocess.Popen", "os.fork", "os.kill"}
    assert {what for event, what in seen if event == "subprocess.Popen"} <= {sys.executable}
    assert caught.value.code in ("V201", "V202")
    assert caught.value.what.isprintable()
    assert len(str(caught.value)) < 3000
    assert caught.value.hint
    assert children() == before  # none is left, not even dead


def test_C06_list_is_broad() -> None:
    assert len(ITEMS) >= 70


def test_C06_what_is_hostile_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_spawned", forked)
    for name, message in {
        "external storage in /etc/passwd": r"`x` lies in another file \(external storage\)",
        "external link as a middle part": r"`layers/dense` is a link to elsewhere \(external\)",
        "soft link as a middle part": r"`layers/g` is a link to elsewhere \(soft\)",
        "hard link cycle": "another name already",
        "virtual dataset of a sibling": r"`v` is put together from others \(virtual\)",
        "4 GB never written": "`x` declares 4294967296 bytes, 0 were written",
        "gzip 1:1000": "far larger than the file",
        "gzip 1:20 many times": "more than 8 times",
        "texts of fixed length": "`x` holds text, weights are plain numbers",
        "tensors that share bytes": "shares bytes with another",
        "33 nested groups": "nested deeper than 32",
    }.items():
        folder = tmp_path / name.replace("/", "_")
        folder.mkdir()
        with pytest.raises(VitrailError, match=message) as caught:
            hdf5.read(folder_with(name, folder))
        assert caught.value.code == "V202"


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_C01_C06_the_kernel_saw_nothing_else_opened(tmp_path: Path) -> None:
    """Under strace: no file but the one that was named, no program but Python, no socket, by parent and children."""
    paths = []
    for number, name in enumerate(REACHING[::5]):
        (tmp_path / str(number)).mkdir()
        paths.append(folder_with(name, tmp_path / str(number)))
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from vitrail.errors import VitrailError
        from vitrail.formats import hdf5
        for name in sys.argv[1:]:
            try:
                hdf5.read(Path(name))
            except VitrailError:
                print("refused")
    """)
    log = tmp_path / "log"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", log, "-e", "trace=openat,open,execve,execveat,socket,connect",
         sys.executable, "-c", script, *paths],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.split() == ["refused"] * len(paths)
    lines = log.read_text().splitlines()
    names = "/var/run/nscd/socket"  # where glibc asks for the name of a user, if Python wants to know it
    assert not [line for line in lines if ("connect(" in line and names not in line) or "AF_INET" in line]
    run = [line for line in lines if "execve(" in line and " = -1 " not in line]
    assert all(sys.executable in line for line in run)
    assert len(run) == 1 + len(paths)
    opened = [line for line in lines if "open" in line and ("/etc/passwd" in line or str(tmp_path) in line)]
    assert len(opened) == len(paths)
    assert all("x.h5" in line and "secret" not in line for line in opened)


def test_C06_the_child_can_open_nothing(tmp_path: Path) -> None:
    """Its own limits, tried from inside: no file, no process that holds one, no megabyte on a disk, little memory."""
    script = textwrap.dedent(f"""
        import os, runpy, sys
        inside = runpy.run_path({child.__file__!r}, run_name="child")
        inside["limit"](64 << 20, 20)
        for tried in (lambda: open("/etc/passwd"), lambda: os.pipe(), lambda: os.dup(0), lambda: bytearray(200 << 20)):
            try:
                tried()
            except (OSError, MemoryError) as error:
                print(type(error).__name__)
    """)
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["OSError", "OSError", "OSError", "MemoryError"]


class _Scripted:
    """A child that says what it is told to: the parent trusts no word of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, said: bytes, stays: bool = False) -> None:
        self._said = said
        self._stays = stays
        monkeypatch.setattr(reading, "_spawned", self.spawned)

    @contextlib.contextmanager
    def spawned(self, file: reading.Readable, seconds: int) -> Iterator[tuple[int, int]]:
        source, answers = os.pipe(), os.pipe()
        os.write(source[1], self._said)
        if not self._stays:
            os.close(source[1])
        try:
            yield source[0], answers[1]
        except EOFError:
            raise reading._died(file, 1) from None
        finally:
            for end in (source[0], *answers, *([source[1]] if self._stays else [])):
                os.close(end)


def frame(kind: bytes, body: bytes = b"") -> bytes:
    return len(body).to_bytes(4, "little") + kind + body


def told(
    name: bytes = b"a", *, offset: int = 0, size: int = 8, code: bytes = b"<f4", sizes: tuple[int, ...] = (2,)
) -> bytes:
    words = b"".join(value.to_bytes(8, "little") for value in (1, offset, size))
    return frame(b"D", words + code + bytes([len(sizes)]) + b"".join(n.to_bytes(8, "little") for n in sizes) + name)


END = frame(b"L")
SAID = {
    "nothing": b"",
    "half a frame": b"\1\0",
    "a frame of 4 GiB": b"\xff\xff\xff\xffD",
    "an unknown frame": frame(b"?", b"abc"),
    "the end at once": frame(b"Z"),
    "bytes at once": frame(b"B", b"abc"),
    "a short dataset": frame(b"D", b"abc"),
    "a dataset of rank 255": frame(b"D", bytes(24) + b"<f4\xff" + bytes(8)),
    "a dataset of objects": told(code=b"|O8") + END,
    "a dataset of commands": told(code=b"<x1") + END,
    "a size that is not its shape's": told(size=9) + END,
    "bytes outside the file": told(offset=1 << 40) + END,
    "bytes that wrap around": told(offset=(1 << 64) - 9) + END,
    "a shape of 2^63": told(sizes=(1 << 63,), size=1 << 40) + END,
    "no end after the listing": told() + END,
    "a name twice": told() + told(offset=16) + END,
    "a name that leads out": told(b"../a") + END,
    "2 GiB to be sent": told(offset=child.NO_RANGE, size=1 << 31, sizes=(1 << 29,)) + END,
    "more bytes than told": told(offset=child.NO_RANGE) + END + frame(b"B", bytes(9)),
    "empty pieces": told(offset=child.NO_RANGE) + END + frame(b"B") * 9,
    "fewer bytes than told": told(offset=child.NO_RANGE) + END + frame(b"B", bytes(7)) + frame(b"Z"),
    "a request outside": frame(b"R", (1 << 40).to_bytes(8, "little") + (9).to_bytes(8, "little")),
    "a request of 2^63": frame(b"R", bytes(8) + (1 << 63).to_bytes(8, "little")),
    "a short request": frame(b"R", bytes(3)),
    "an escape sequence": frame(b"E", b"h\x1b[31m\nforged"),
    "an error of no kind": frame(b"E"),
}


@pytest.mark.parametrize("name", SAID)
def test_C07_the_parent_believes_no_word_of_the_child(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good(tmp_path / "x.h5")
    _Scripted(monkeypatch, SAID[name])
    with deeds(), pytest.raises(VitrailError) as caught:
        hdf5.read(tmp_path / "x.h5")
    assert caught.value.code in ("V201", "V202")
    assert caught.value.what.isprintable()


def test_C06_a_silent_child_is_ended_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good(tmp_path / "x.h5")
    monkeypatch.setattr(reading, "SECONDS", 1)
    _Scripted(monkeypatch, frame(b"R", bytes(8) + (8).to_bytes(8, "little")), stays=True)
    with pytest.raises(VitrailError, match="not read after 1 s"):
        hdf5.read(tmp_path / "x.h5")


def test_C06_a_child_that_dies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good(tmp_path / "x.h5")
    for body, message in (("import os; os.kill(os.getpid(), 11)", "signal 11"), ("raise SystemExit(3)", "exit code 3")):
        script = tmp_path / "child.py"
        script.write_text(body)
        monkeypatch.setattr(child, "__file__", str(script))
        with pytest.raises(VitrailError, match=message) as caught:
            hdf5.read(tmp_path / "x.h5")
        assert caught.value.code == "V201"


def test_C06_too_much_memory_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=[1.0] * (4 << 20), dtype="<f8", chunks=(4 << 20,))
    monkeypatch.setattr(reading, "MEMORY", -(130 << 20))
    with pytest.raises(VitrailError, match=r"memory|broke down"):
        hdf5.read(tmp_path / "x.h5")


@pytest.mark.parametrize("name", ["empty", "half", "external storage in /etc/passwd", "hard link cycle"])
def test_C10_wrong_hash_stops_before_the_child(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder_with(name, tmp_path)
    monkeypatch.setattr(reading, "parse", lambda file: pytest.fail("parsed"))
    with pytest.raises(VitrailError, match="SHA-256"):
        hdf5.read(path, sha256="0" * 64)


def test_C06_attributes_are_not_believed(tmp_path: Path) -> None:
    """Accepted on purpose: names of layers in attributes that are another file's are not even read."""
    good(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file.attrs["layer_names"] = ["/etc/passwd", "../x", "nothing"]
        file["layers"].attrs["weight_names"] = [b"\xff"]
        file.attrs["model_config"] = '{"class_name": "Lambda", "config": {"function": ["os.system"]}}'
    assert list(hdf5.read(tmp_path / "x.h5")) == ["layers/dense/vars/0", "layers/dense/vars/1", "layers/norm/vars/0"]


EVIL = '{"class_name": "Lambda", "config": {"function": {"config": {"code": "os.system(\'touch canary\')"}}}}'


def keras(path: Path, weights: bytes, config: str = EVIL, method: int = zipfile.ZIP_STORED, **more: str) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        file.writestr("config.json", config)
        file.writestr("model.weights.h5", weights)
        for name, text in more.items():
            file.writestr(name, text)
    return path


CONFIGS = {
    "Lambda with code": EVIL,
    "a module to import": '{"module": "canary_module", "class_name": "system", "registered_name": "x"}',
    "os.system": '{"module": "os", "class_name": "system", "config": "touch canary"}',
    "unsafe deserialisation": '{"module": "keras.config", "class_name": "enable_unsafe_deserialization"}',
    "nested load_model": '{"module": "keras.models", "class_name": "load_model", "config": ["/etc/passwd"]}',
    "no JSON": "{" * 100_000,
    "empty": "",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_C01_config_of_a_keras_model_is_never_opened(name: str, tmp_path: Path) -> None:
    """Accepted on purpose: the weights are read, whatever the configuration would build."""
    good(tmp_path / "w.h5")
    path = keras(tmp_path / "m.keras", (tmp_path / "w.h5").read_bytes(), CONFIGS[name])
    with deeds() as seen:
        tensors = keras_zip.read(path)
    assert tensors == hdf5.read(tmp_path / "w.h5")
    assert {what for event, what in seen if event == "open" and not what.isdecimal()} <= {str(path), "/dev/null"}
    assert not [event for event in seen if event[0] == "import"]
    assert not list(tmp_path.glob("canary*"))
