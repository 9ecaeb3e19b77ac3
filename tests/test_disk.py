"""Files are whole or absent, names stay inside, locks die with their process, and every refusal is typed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail import disk
from vitrail.errors import BundleError, RunError, SystemFault, VitrailError
from vitrail.locks import locked

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

ROOT = Path(__file__).parents[1]


def asides(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name.startswith(disk.ASIDE)]


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


# ---- files


def test_a_file_is_written_from_bytes_or_by_a_function(tmp_path: Path) -> None:
    disk.write_file(tmp_path / "a", b"bytes")
    disk.write_file(tmp_path / "b", lambda file: [file.write(bytes([i])) for i in range(200)])
    assert (tmp_path / "a").read_bytes() == b"bytes"
    assert (tmp_path / "b").read_bytes() == bytes(range(200))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "b"]


def test_a_writer_gets_a_true_file(tmp_path: Path) -> None:
    import zipfile

    def pack(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("member", b"x" * 10_000)

    disk.write_file(tmp_path / "a.zip", pack)
    assert zipfile.ZipFile(tmp_path / "a.zip").read("member") == b"x" * 10_000


@pytest.mark.parametrize("error", [ValueError("ours"), KeyboardInterrupt(), OSError(errno.EDQUOT, "Quota exceeded")])
def test_a_failing_writer_leaves_the_old_file_and_nothing_else(error: BaseException, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(SystemFault if isinstance(error, OSError) else type(error)) as raised:
        disk.write_file(tmp_path / "a", fail)
    if isinstance(raised.value, SystemFault):
        assert "EDQUOT" in str(raised.value)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert asides(tmp_path) == []


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    with pytest.raises(SystemFault) as fault:
        disk.write_file(tmp_path / "link", b"new")
    assert (fault.value.code, "give the name of a file" in str(fault.value)) == ("V701", True)
    assert (tmp_path / "link").is_symlink() and asides(tmp_path) == []


def test_a_link_a_pipe_and_an_old_file_are_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"outside")
    (tmp_path / "link").symlink_to("outside")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "outside2"):
        disk.write_file(tmp_path / name, b"new")
        assert stat.S_ISREG((tmp_path / name).lstat().st_mode)
    assert (tmp_path / "outside").read_bytes() == b"outside"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("missing/a", "ENOENT"),
        ("folder", "EISDIR"),
        ("file/a", "ENOTDIR"),
        ("x" * 256, "ENAMETOOLONG"),
        ("nul\0byte", "EINVAL"),
        ("lone \ud800 surrogate", "EINVAL"),
    ],
)
def test_what_cannot_be_written_is_refused_with_its_cause(name: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SystemFault) as fault:
        disk.write_file(tmp_path / name, b"x")
    assert (fault.value.code, fault.value.exit_code) == ("V701", 4)
    assert code in str(fault.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("name", ["x" * 255, "猫" * 85, "blank  and\nnewline", os.fsdecode(b"caf\xe9"), "-rf"])
def test_A23_odd_names_work(name: str, tmp_path: Path) -> None:
    disk.write_file(tmp_path / name, b"x")
    assert disk.read_file(tmp_path / name, limit=9) == b"x"
    (tmp_path / name).unlink()
    with disk.new_folder(tmp_path / name) as folder:
        (folder / "a").write_bytes(b"x")
    assert (tmp_path / name / "a").is_file()


@pytest.mark.usefixtures("open_umask")
def test_A23_nothing_is_world_writable(tmp_path: Path) -> None:
    disk.write_file(tmp_path / "a", b"x")
    disk.make_folder(tmp_path / "b" / "c")
    with disk.new_folder(tmp_path / "d") as folder:
        disk.write_new(folder / "e", b"x")
    with locked(tmp_path):
        modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {".lock": 0o644, "a": 0o644, "b": 0o755, "b/c": 0o755, "d": 0o755, "d/e": 0o644}


def test_A23_a_strict_umask_is_kept(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        disk.write_file(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_relative_name_is_written_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    disk.write_file(Path("a"), b"x")
    with disk.new_folder(Path("b/c")) as folder:
        (folder / "d").write_bytes(b"x")
    disk.make_folder(Path("e/f"))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "a",
        "b",
        "b/c",
        "b/c/d",
        "e",
        "e/f",
    ]
    with pytest.raises(SystemFault), disk.new_folder(Path(".")):
        pass


def test_threads_that_write_one_file_leave_one_whole(tmp_path: Path) -> None:
    texts = [bytes([65 + number]) * 50_000 for number in range(8)]
    threads = [threading.Thread(target=disk.write_file, args=(tmp_path / "a", text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_bytes() in texts
    assert asides(tmp_path) == []


def failing_fsync(code: int, only: Callable[[int], bool]) -> Callable[[int], None]:
    def fsync(descriptor: int) -> None:
        if only(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))

    return fsync


def test_a_file_that_cannot_be_flushed_never_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", failing_fsync(errno.EIO, stat.S_ISREG))
    with pytest.raises(SystemFault, match="EIO"):
        disk.write_file(tmp_path / "a", b"new")
    with pytest.raises(SystemFault, match="EIO"), disk.new_folder(tmp_path / "b") as folder:
        (folder / "c").write_bytes(b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_name_that_is_not_confirmed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing_fsync(errno.EIO, stat.S_ISDIR))
    with pytest.raises(SystemFault, match="does not confirm") as fault:
        disk.write_file(tmp_path / "a", b"new")
    assert "EIO" in str(fault.value)
    assert "nothing saved before was touched" not in str(fault.value)
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_file_system_that_cannot_flush_folders_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing_fsync(errno.EINVAL, stat.S_ISDIR))
    disk.write_file(tmp_path / "a", b"new")
    with disk.new_folder(tmp_path / "b") as folder:
        (folder / "c").write_bytes(b"new")
    assert (tmp_path / "b" / "c").is_file()


# ---- folders


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with disk.new_folder(tmp_path / "deep" / "new") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_bytes(b"x")
        assert not (tmp_path / "deep" / "new").exists()
    assert (tmp_path / "deep" / "new" / "sub" / "a").read_bytes() == b"x"
    assert asides(tmp_path / "deep") == []


@pytest.mark.parametrize("error", [ValueError("ours"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_folder_that_fails_is_absent(error: BaseException, tmp_path: Path) -> None:
    wanted = SystemFault if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted), disk.new_folder(tmp_path / "new") as folder:  # noqa: PT012
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_bytes(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_inside_a_folder_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="mine"), disk.new_folder(tmp_path / "new"):
        raise RunError("V602", "mine")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["full", "file", "link"])
def test_a_folder_replaces_nothing_that_holds_something(name: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_bytes(b"old")
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("full")
    with pytest.raises(SystemFault), disk.new_folder(tmp_path / name) as folder:
        (folder / "a").write_bytes(b"new")
    assert (tmp_path / "full" / "a").read_bytes() == (tmp_path / "file").read_bytes() == b"old"
    assert asides(tmp_path) == []


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with disk.new_folder(tmp_path / "empty") as folder:
        (folder / "a").write_bytes(b"new")
    assert (tmp_path / "empty" / "a").read_bytes() == b"new"


def test_make_folder_makes_all_of_a_long_way(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 1100)
    disk.make_folder(deep)
    disk.make_folder(deep)
    assert deep.is_dir()
    for folder in (deep, *deep.parents):  # pytest's own clean-up recurses, and would give up on so deep a tree
        if folder == tmp_path:
            break
        folder.rmdir()


@pytest.mark.parametrize("name", ["file", "file/sub", "dangling", "x" * 300, "nul\0"])
def test_make_folder_refuses_what_is_in_the_way(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(SystemFault) as fault:
        disk.make_folder(tmp_path / name)
    assert fault.value.code == "V701"


def test_every_folder_on_the_way_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    disk.make_folder(tmp_path / "a" / "b")
    assert flushed == [str(tmp_path), str(tmp_path / "a")]
    with disk.new_folder(tmp_path / "c") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "x").write_bytes(b"")
    names = [Path(name).name.split("-")[0] for name in flushed[2:]]
    assert names == [".aside", "x", "sub", tmp_path.name.split("-")[0]]


def test_remove_folder_takes_links_not_their_targets(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").write_bytes(b"x")
    gone = tmp_path / "gone"
    (gone / "sub" / "subsub").mkdir(parents=True)
    (gone / "sub" / "b").write_bytes(b"x")
    (gone / "to folder").symlink_to("../kept")
    (gone / "to nothing").symlink_to("nothing")
    disk.remove_folder(gone)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "a").is_file()


def test_remove_folder_says_what_it_could_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemFault, match="ENOENT"):
        disk.remove_folder(tmp_path / "missing")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "a").write_bytes(b"x")

    def refuse(path: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(SystemFault, match="EIO"):
            disk.remove_folder(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
    disk.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_go_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "a").write_bytes(b"x")
    (tmp_path / f"{disk.ASIDE}1-a").write_bytes(b"")
    (tmp_path / f"{disk.ASIDE}2-b").mkdir()
    (tmp_path / f"{disk.ASIDE}2-b" / "c").write_bytes(b"")
    (tmp_path / f"{disk.ASIDE}3-c").symlink_to("kept")
    disk.remove_leftovers(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "a").is_file()
    disk.remove_leftovers(tmp_path / "missing")


# ---- reading


@given(data=st.binary(max_size=3000))
def test_hashes_are_sha256(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "hashed"
    disk.write_file(path, data)
    assert disk.sha256_file(path) == disk.sha256_bytes(data) == hashlib.sha256(data).hexdigest()
    assert disk.read_file(path, limit=len(data)) == data


READERS: dict[str, Callable[[Path], object]] = {
    "read": lambda path: disk.read_file(path, limit=100),
    "hash": disk.sha256_file,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["missing", "folder", "pipe", "file/sub", "nul\0", "\ud800", "loop"])
def test_what_is_no_file_is_refused_and_hangs_nobody(reader: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemFault) as fault:
        READERS[reader](tmp_path / name)
    assert fault.value.code == "V702"


def test_a_device_is_no_file() -> None:
    for reader in READERS.values():
        with pytest.raises(SystemFault, match="regular"):
            reader(Path("/dev/zero"))


def test_links_are_followed_unless_told_not_to(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").symlink_to("a")
    assert disk.read_file(tmp_path / "b", limit=1) == b"x"
    assert disk.sha256_file(tmp_path / "b") == disk.sha256_bytes(b"x")
    with pytest.raises(SystemFault, match="ELOOP"):
        disk.read_file(tmp_path / "b", limit=1, follow=False)
    with pytest.raises(SystemFault, match="ELOOP"):
        disk.sha256_file(tmp_path / "b", follow=False)


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SystemFault, match="the limit is 5"):
        disk.read_file(tmp_path / "huge", limit=5)


@pytest.mark.parametrize("change", [-1, 1])
def test_C21_a_file_that_changes_its_size_is_refused(
    change: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    real = os.fstat

    def stale(descriptor: int) -> os.stat_result:
        found = list(real(descriptor))
        found[6] += change
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", stale)
    with pytest.raises(SystemFault, match="changed"):
        disk.read_file(tmp_path / "a", limit=100)


def test_free_space_is_known(tmp_path: Path) -> None:
    assert disk.free_space(tmp_path) > 0
    with pytest.raises(SystemFault):
        disk.free_space(tmp_path / "missing")


# ---- members


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    root = tmp_path / "bundle"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_bytes(b"x")
    (root / "sub" / "b").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to("../secret")
    (root / "linked folder").symlink_to("sub")
    os.link(tmp_path / "secret", root / "hard")
    os.mkfifo(root / "pipe")
    return root


def test_a_member_is_found(bundle: Path) -> None:
    assert disk.member(bundle, "a") == bundle / "a"
    assert disk.member(bundle, "sub/b") == bundle / "sub" / "b"


NO_NAMES = ["", ".", "..", "/", "../secret", "sub/../a", "./a", "a/", "sub//b", "sub\\b", "a\0", "a\n", "\ud800"]


@pytest.mark.parametrize("name", [*NO_NAMES, "/etc/passwd", "link", "linked folder/b", "hard", "pipe", "sub"])
def test_a_name_that_leads_out_is_refused(name: str, bundle: Path) -> None:
    with pytest.raises(BundleError) as refused:
        disk.member(bundle, name)
    assert refused.value.code == "V503"


@pytest.mark.parametrize("name", ["missing", "a/b", "x" * 300])
def test_a_missing_member_is_named(name: str, bundle: Path) -> None:
    with pytest.raises(BundleError) as refused:
        disk.member(bundle, name)
    assert refused.value.code == "V502"


@given(st.text(alphabet="ab./\\\0\n~", max_size=12))
def test_no_name_leads_out(name: str) -> None:
    root = ROOT / "vitrail"
    with contextlib.suppress(BundleError):
        path = disk.member(root, name)
        assert path.resolve().is_relative_to(root.resolve())
        assert not path.is_symlink()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    disk.write_file(tmp_path / "a", b"x")
    with locked(tmp_path), disk.new_folder(tmp_path / "b") as folder:
        disk.write_new(folder / "c", lambda file: file.write(b"x"))
    for name in ("missing", "b"):
        with contextlib.suppress(VitrailError):
            disk.read_file(tmp_path / name, limit=1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_write_new_never_overwrites_or_follows(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "dangling").symlink_to("b")
    for name in ("a", "dangling"):
        with pytest.raises(FileExistsError):
            disk.write_new(tmp_path / name, b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert not (tmp_path / "b").exists()


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OneByte(io.FileIO):
        def write(self, data: Buffer) -> int:
            return super().write(bytes(data)[:1]) or 0

    def open_short(path: Path, mode: str, opener: Callable[[str, int], int]) -> IO[bytes]:
        return io.BufferedWriter(OneByte(path, mode, opener=opener))

    monkeypatch.setattr("vitrail.disk.open", open_short, raising=False)
    disk.write_file(tmp_path / "a", bytes(range(256)) * 80)
    assert (tmp_path / "a").read_bytes() == bytes(range(256)) * 80
