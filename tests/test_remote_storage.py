"""Promise B13 for stores: a store that breaks in every way, what is in the cache afterwards, and who copies."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.formats.archive_files import walked
from tests.test_remote import Server, Step
from tests.test_remote import server as server
from vitrail import disk, remote
from vitrail.data.configs import Data
from vitrail.data.sources import open_source
from vitrail.errors import SystemFault, UsageError, VitrailError, WeightsError
from vitrail.remote import copying, room, storage
from vitrail.remote.copying import entry_of, fetched, is_address

BYTES = random.Random(0).randbytes(50_000)
TREE = {"cat/1.bin": BYTES[:3000], "cat/2.bin": b"", "dog/a b.bin": BYTES[3000:9000], "top.txt": b"top"}
HOW = remote.How(timeout=5.0, tries=3, pause=0.0, loopback=True)


class Faulty:
    """The store of one bucket: what it lists, and what goes wrong first."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = {f"bucket/{name}": data for name, data in files.items()}
        self.tags = dict.fromkeys(self.files, "one")
        self.faults: list[Callable[[bytes], bytes]] = []
        self.reads: list[tuple[str, int]] = []
        self.extra: dict[str, Any] = {}

    def _info(self, name: str) -> dict[str, Any]:
        return {"name": name, "size": len(self.files[name]), "type": "file", "ETag": self.tags[name], **self.extra}

    def info(self, path: str) -> dict[str, Any]:
        if path in self.files:
            return self._info(path)
        if any(name.startswith(f"{path.rstrip('/')}/") for name in self.files):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def find(self, path: str, detail: bool) -> dict[str, Any]:
        return {name: self._info(name) for name in self.files if name.startswith(f"{path.rstrip('/')}/")}

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        self.reads.append((path, start))
        data = self.files[path][start:end]
        return self.faults.pop(0)(data) if self.faults else data


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    made = Faulty({"one.bin": BYTES, **{f"tree/{name}": data for name, data in TREE.items()}})
    monkeypatch.setattr(storage, "_opened", lambda url: (made, url.partition("://")[2]))
    monkeypatch.setattr(copying, "PIECE", 10_000)
    return made


def get(url: str, cache: Path, **change: Any) -> Path:
    return fetched(url, cache=cache, how=remote.How(**{**vars(HOW), **change}))


def _raise(error: Exception) -> Callable[[bytes], bytes]:
    def fault(_: bytes) -> bytes:
        raise error

    return fault


def _stall(data: bytes) -> bytes:
    time.sleep(1.0)
    return data


MENDING: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:1000],
    "nothing": lambda data: b"",
    "reset": _raise(ConnectionResetError("by peer")),
    "a fault of the client's own": _raise(RuntimeError("checksum mismatch in stream")),
    "stall": _stall,
    "too long": lambda data: data + b"x",
    "no bytes": lambda data: None,  # type: ignore[arg-type, return-value]
}


@pytest.mark.parametrize("fault", MENDING)
@pytest.mark.parametrize("at", [0, 2])
def test_B13_faults_of_a_store_that_mend(store: Faulty, tmp_path: Path, fault: str, at: int) -> None:
    store.faults = [lambda data: data] * at + [MENDING[fault]]
    path = get("s3://bucket/one.bin", tmp_path, timeout=0.3)
    assert path.read_bytes() == BYTES and path.name == "one.bin"
    assert store.reads[at + 1][1] <= store.reads[at][1] + 1000  # it went on, and did not begin anew
    assert store.reads[at + 1][1] >= 10_000 * at
    count = len(store.reads)
    assert get("s3://bucket/one.bin", tmp_path) == path and len(store.reads) == count


ENDING: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "forbidden": (_raise(PermissionError("403")), "403"),
    "gone": (_raise(FileNotFoundError("404")), "nothing is there"),
    "for ever": (_raise(OSError("again and again")), "again and again"),
}


@pytest.mark.parametrize("fault", ENDING)
def test_B13_faults_of_a_store_that_end_it(store: Faulty, tmp_path: Path, fault: str) -> None:
    broken, word = ENDING[fault]
    store.faults = [lambda data: data, *[broken] * 4]
    with pytest.raises(SystemFault) as caught:
        get("s3://bucket/one.bin", tmp_path)
    assert caught.value.code == "V704" and word in str(caught.value)
    entry, name = entry_of("s3://bucket/one.bin", tmp_path)
    assert not (entry / name).exists() and not (entry / room.WHOLE).exists()
    store.reads, store.faults = [], []
    assert get("s3://bucket/one.bin", tmp_path).read_bytes() == BYTES
    assert store.reads[0][1] == 10_000  # what came was kept


def test_B13_another_tag_on_the_way_ends_it_and_nothing_of_it_is_kept(store: Faulty, tmp_path: Path) -> None:
    def replaced(data: bytes) -> bytes:
        store.files["bucket/one.bin"], store.tags["bucket/one.bin"] = BYTES[::-1], "two"
        return data

    store.faults = [lambda data: data, replaced]
    with pytest.raises(SystemFault, match="cannot fetch") as caught:
        get("s3://bucket/one.bin", tmp_path)
    assert "became another file" in str(caught.value)
    store.reads.clear()
    assert get("s3://bucket/one.bin", tmp_path).read_bytes() == BYTES[::-1] and store.reads[0][1] == 0


def test_B13_a_part_of_another_tag_is_not_continued(store: Faulty, tmp_path: Path) -> None:
    store.faults = [lambda data: data, *[_raise(OSError("cut"))] * 4]
    with pytest.raises(SystemFault):
        get("s3://bucket/one.bin", tmp_path)
    store.files["bucket/one.bin"], store.tags["bucket/one.bin"] = BYTES[::-1], "two"
    assert get("s3://bucket/one.bin", tmp_path).read_bytes() == BYTES[::-1]


def test_B13_a_stated_hash_holds(store: Faulty, tmp_path: Path) -> None:
    store.extra = {"md5Hash": base64.b64encode(hashlib.md5(BYTES).digest()).decode()}
    store.faults = [lambda data: bytes(len(data))]
    assert get("gs://bucket/one.bin", tmp_path / "a").read_bytes() == BYTES  # the damaged try is thrown away
    store.extra = {"md5Hash": base64.b64encode(bytes(16)).decode()}
    with pytest.raises(SystemFault, match="cannot fetch") as caught:
        get("gs://bucket/one.bin", tmp_path / "b")
    assert "MD5" in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a//b", "a\nb", "a\\b", "./x", "a/" + "x" * 256])
def test_B13_names_of_a_store_lead_nowhere(store: Faulty, tmp_path: Path, name: str) -> None:
    store.files[f"bucket/tree/{name}"] = b"1"
    store.tags[f"bucket/tree/{name}"] = "one"
    with pytest.raises(SystemFault, match="cannot fetch"):
        get("s3://bucket/tree", tmp_path / "cache")
    assert [entry.name for entry in tmp_path.iterdir()] == ["cache"] and not store.reads


def test_B13_what_is_not_there_is_said(store: Faulty, tmp_path: Path) -> None:
    with pytest.raises(SystemFault, match="cannot fetch") as caught:
        get("s3://bucket/nothing", tmp_path)
    assert "nothing is there" in str(caught.value)
    assert isinstance(caught.value, VitrailError) and "check the address" in caught.value.hint


NEVER = (
    "ftp://x/y", "file:///etc/passwd", "s3://k:s@b/x", "s3://b/../x", "memory://a::file://b", "s3://b/x%2Fy",
    "https://host/folder/", "http://example.org/x.zip", "https://10.0.0.1/x.zip",
)  # fmt: skip


@pytest.mark.parametrize("url", NEVER)
def test_B13_addresses_that_are_never_fetched(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError) as caught:
        fetched(url, cache=tmp_path)
    assert caught.value.code == "V007" and caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_tree_is_copied_and_goes_on_file_by_file(store: Faulty, tmp_path: Path) -> None:
    store.faults = [lambda data: data, *[_raise(OSError("cut"))] * 30]
    with pytest.raises(SystemFault):
        get("s3://bucket/tree/", tmp_path)
    store.faults, before = [], [name for name, _ in store.reads]
    path = get("s3://bucket/tree/", tmp_path)
    assert walked(path) == TREE and before
    assert not (path.parent / ".parts").exists()


def test_stores_that_are_not_installed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(scheme: str, **_: object) -> object:
        raise ImportError("Install gcsfs")

    monkeypatch.setattr(fsspec, "filesystem", absent)
    with pytest.raises(UsageError) as caught:
        fetched("gs://bucket/x", cache=tmp_path)
    assert caught.value.code == "V003" and "gcsfs" in caught.value.hint


def test_obs_is_s3_with_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="endpoint") as caught:
        fetched("obs://bucket/x", cache=tmp_path)
    assert "FSSPEC_OBS_ENDPOINT_URL" in caught.value.hint
    asked: list[tuple[str, dict[str, object]]] = []
    made = Faulty({"x": b"1"})

    def filesystem(scheme: str, **options: object) -> Faulty:
        asked.append((scheme, options))
        return made

    monkeypatch.setattr(fsspec, "filesystem", filesystem)
    monkeypatch.setitem(fsspec.config.conf, "obs", {"endpoint_url": "https://obs.example.com"})
    assert get("obs://bucket/x", tmp_path).read_bytes() == b"1"
    assert asked == [("s3", {"endpoint_url": "https://obs.example.com"})]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """fsspec's own store in memory, and a cache of our own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def test_data_of_a_store_in_memory(memory: Any, tmp_path: Path) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        for number in range(3):
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "set" / name / f"{number}.png")
    for path, data in walked(tmp_path / "set").items():
        memory.pipe(f"/bucket/set/{path}", data)
    there, here = (open_source(Data(root=root)) for root in ("memory://bucket/set", str(tmp_path / "set")))
    assert there.fingerprint == here.fingerprint
    assert there.notes[0].startswith("`memory://bucket/set` lies in")


@pytest.mark.parametrize("url", ["memory://bucket/vit.npz", "memory://bucket/pre_ckpt/"])
def test_weights_of_a_store_in_memory(memory: Any, tmp_path: Path, url: str) -> None:
    import vitrail
    from vitrail.weights import save_as

    made = vitrail.create("cct_2_3x2_32")
    save_as(made, tmp_path / "vit.safetensors", "native")
    memory.pipe("/bucket/vit.npz", (tmp_path / "vit.safetensors").read_bytes())
    memory.pipe("/bucket/pre_ckpt/0-10_1.ckpt", (tmp_path / "vit.safetensors").read_bytes())
    opened = vitrail.open(url)
    import numpy as np

    picture = np.ones((1, 3, 32, 32), np.float32)
    assert np.array_equal(opened.logits(picture), made.logits(picture))


def test_a_file_of_a_web_server(server: Server, tmp_path: Path) -> None:
    path = get(f"{server.url}/data/photos.zip", tmp_path)
    assert path.read_bytes() == Step().data and path.name == "photos.zip"
    assert get(f"{server.url}/data/photos.zip", tmp_path) == path and len(server.asked) == 1


def test_C20_a_file_of_a_web_server_stays_the_one_of_the_first_pull(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{server.url}/data/photos.zip"
    path = get(url, tmp_path)
    hashed: list[Path] = []
    sha256_file = disk.sha256_file

    def noted(place: Path) -> str:
        hashed.append(place)
        return sha256_file(place)

    monkeypatch.setattr(disk, "sha256_file", noted)
    assert get(url, tmp_path) == path and not hashed  # nothing touched it
    path.chmod(0o600)
    assert get(url, tmp_path) == get(url, tmp_path) == path and hashed == [path]
    before = path.stat()
    path.write_bytes(Step().data[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if it had not been written to
    for _ in range(2):
        with pytest.raises(WeightsError, match="is not the file of") as caught:
            get(url, tmp_path)
        assert caught.value.code == "V207" and "at the first pull it was" in str(caught.value)
    path.unlink()
    assert get(url, tmp_path).read_bytes() == Step().data and len(server.asked) == 2


ONE_OF_EIGHT = """
import sys
from pathlib import Path
from vitrail import remote
how = remote.How(timeout=60.0, loopback=True)
print(remote.fetched(sys.argv[1], cache=Path(sys.argv[2]), how=how).read_bytes()[:9].hex(), flush=True)
sys.stdin.read()
"""


def test_eight_processes_copy_once(server: Server, tmp_path: Path) -> None:
    server.steps = [Step(pause=0.5)]
    command = [sys.executable, "-c", ONE_OF_EIGHT, f"{server.url}/a/set.tar", str(tmp_path)]
    ranks = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(8)]
    try:
        for rank in ranks:
            assert rank.stdout is not None
            assert rank.stdout.readline().strip().decode() == Step().data[:9].hex()
    finally:
        for rank in ranks:
            rank.communicate()
    assert [asked for asked, _ in server.asked] == ["/a/set.tar"]


SLOW = """
import sys, time
from pathlib import Path
from vitrail import remote
from vitrail.remote import copying, storage
class Slow:
    def info(self, path):
        return {"name": path, "size": 100_000, "type": "file", "ETag": "one"}
    def cat_file(self, path, start, end):
        print(start, flush=True)
        if start >= int(sys.argv[2]):
            time.sleep(60)
        return bytes(end - start)
copying.PIECE = 10_000
storage._opened = lambda url: (Slow(), "b/x")
copying.fetched("s3://b/x", cache=Path(sys.argv[1]), how=remote.How(timeout=100.0))
"""


def test_B13_a_killed_copy_goes_on(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path), "50000"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        while int(child.stdout.readline()) < 50_000:
            pass
        child.send_signal(signal.SIGKILL)
    entry, name = entry_of("s3://b/x", tmp_path)
    (part,) = (entry / ".parts").iterdir()
    assert part.stat().st_size == 50_000 and not (entry / name).exists()
    done = subprocess.run([sys.executable, "-c", SLOW, str(tmp_path), "999999"], capture_output=True, timeout=60)
    assert done.stdout.split()[0] == b"50000" and (entry / name).read_bytes() == bytes(100_000)


def test_the_cache_is_bounded_and_what_is_in_use_stays(
    store: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        store.files[f"bucket/{number}.bin"], store.tags[f"bucket/{number}.bin"] = BYTES, "one"
    monkeypatch.setenv(room.LIMIT, str(150_000 / (1 << 30)))
    paths = []
    for number in range(2):
        paths.append(get(f"s3://bucket/{number}.bin", tmp_path))
        os.utime(paths[-1].parent / room.USED, (number, number))
    for path in paths[:1]:  # as if the process that used it had ended
        os.close(room._used.pop(path.parent))
    third = get("s3://bucket/2.bin", tmp_path)
    assert not paths[0].exists() and paths[1].exists() and third.exists()  # the oldest that nobody uses went
    with pytest.raises(VitrailError) as caught:
        get("s3://bucket/3.bin", tmp_path)
    assert caught.value.code == "V701" and "in use" in caught.value.what
    monkeypatch.setenv(room.LIMIT, "many")
    with pytest.raises(UsageError, match="many"):
        get("s3://bucket/3.bin", tmp_path)


def test_addresses_are_told_from_paths() -> None:
    assert is_address("https://x/y") and is_address("obs://b/pre_ckpt/")
    assert not any(map(is_address, ("a/b", "/a", "C:\\x", "hf:owner/name", "digits")))
