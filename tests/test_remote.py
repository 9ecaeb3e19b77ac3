"""Promises B13 and C20: a server of our own that breaks in every way, and what is in the cache afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vitrail import disk, remote
from vitrail.errors import RunError, SystemFault, UsageError, VitrailError, WeightsError
from vitrail.remote import cache as cache_module
from vitrail.remote import web
from vitrail.remote.web import refused

DATA = random.Random(0).randbytes(200_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
ETAG = '"one"'


@dataclass
class Step:
    """One answer: what differs from a server that does all right."""

    status: int | None = None  # in place of 200, or of 206 where a range was asked for
    send: int | None = None  # bytes sent before the line is cut
    pause: float = 0.0  # seconds before the last byte
    headers: dict[str, str | None] = field(default_factory=dict)  # None takes one away
    data: bytes = DATA
    ignore_range: bool = False
    shift: int = 0  # of the range that is sent
    drip: float = 0.0  # seconds between single bytes
    chunked: bool = False
    late: float = 0.0  # seconds between the single bytes of a header line


class Server(ThreadingHTTPServer):
    """Answers with the steps one after another, and with a right answer when they are used up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.steps: list[Step] = []
        self.files: dict[str, bytes] | None = None
        self.asked: list[tuple[str, str | None]] = []  # (path, Range)
        self.headers: list[dict[str, str]] = []
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves early is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.close_connection = True
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        self.server.headers.append(dict(self.headers))
        step = self.server.steps.pop(0) if self.server.steps else Step()
        if self.server.files is not None:
            name = self.path.rsplit("/", 1)[-1]
            step = Step(data=self.server.files[name]) if name in self.server.files else Step(status=404, data=b"no")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and not step.ignore_range else 0
        right = self.headers.get("If-Range") == step.headers.get("ETag", ETAG) or "ETag" in step.headers
        if not right:
            start = 0
        status = step.status or (206 if start else 200)
        body = step.data[start + step.shift :]
        headers: dict[str, str | None] = {"ETag": ETAG, "Content-Length": str(len(body))}
        if status == 206:
            last = len(step.data) - 1
            headers["Content-Range"] = f"bytes {start + step.shift}-{last}/{len(step.data)}"
        if step.chunked:
            headers |= {"Content-Length": None, "Transfer-Encoding": "chunked"}
        self.send_response(status)
        for key, value in (headers | step.headers).items():
            if value is not None:
                self.send_header(key, value)
        for letter in b"X-Slow: " + b"x" * 1000 if step.late else b"":
            self.flush_headers()
            self.wfile.write(bytes([letter]))
            if self.server.release.wait(step.late):
                return
        self.end_headers()
        if step.chunked:
            body = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
        self._send(body if step.send is None else body[: step.send], step)

    def _send(self, body: bytes, step: Step) -> None:
        if step.drip:
            for index in range(len(body)):
                self.wfile.write(body[index : index + 1])
                if self.server.release.wait(step.drip):
                    return
        elif step.pause:
            self.wfile.write(body[:-1])
            self.wfile.flush()
            self.server.release.wait(step.pause)
            self.wfile.write(body[-1:])
        else:
            self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.release.set()
        made.shutdown()
        thread.join()


HOW = remote.How(timeout=5.0, tries=3, pause=0.0, loopback=True)
QUICK = remote.How(timeout=0.2, tries=3, pause=0.0, loopback=True)


def fetch(server: Server, place: Path, *, how: remote.How = HOW, name: str = "vit.npz", **known: object) -> Path:
    return remote.pull(f"{server.url}/a/{name}", cache=place, how=how, **known)  # type: ignore[arg-type]


def visible(path: Path) -> set[str]:
    """What lies beside `path`, with what a fetch may leave."""
    return {entry.name for entry in path.parent.iterdir()} - {".lock"}


def test_a_file_comes_whole_and_stays(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch(
        server, tmp_path, size=len(DATA), sha256=SHA256, progress=lambda done, total: seen.append((done, total))
    )
    assert path.read_bytes() == DATA
    assert path == remote.place(f"{server.url}/a/vit.npz", tmp_path)
    assert seen[-1] == (len(DATA), len(DATA)) and seen == sorted(seen)
    assert visible(path) == {"vit.npz", ".vit.npz.pulled.json"}
    assert server.headers[0]["Accept-Encoding"] == "identity"
    assert fetch(server, tmp_path) == path and len(server.asked) == 1


# what the server does first -> the Range headers that it then saw
MENDED: dict[str, tuple[list[Step], list[str | None]]] = {
    "cut": ([Step(send=70_000)], [None, "bytes=70000-"]),
    "cut at once": ([Step(send=0)], [None, None]),
    "cut again and again": ([Step(send=50_000)] * 3, [None, "bytes=50000-", "bytes=100000-", "bytes=150000-"]),
    "changed ETag": ([Step(send=70_000, headers={"ETag": '"old"'}, data=DATA[::-1])], [None, "bytes=70000-"]),
    "another ETag in 206": (
        [Step(send=70_000), Step(headers={"ETag": '"two"'})], [None, "bytes=70000-", None],
    ),
    "no ETag in 206": ([Step(send=70_000), Step(headers={"ETag": None})], [None, "bytes=70000-", None]),
    "weak ETag": ([Step(send=70_000, headers={"ETag": 'W/"one"'})], [None, None]),
    "no ETag": ([Step(send=70_000, headers={"ETag": None})], [None, None]),
    "200 in place of 206": ([Step(send=70_000), Step(ignore_range=True)], [None, "bytes=70000-"]),
    "another range": ([Step(send=70_000), Step(shift=1)], [None, "bytes=70000-", None]),
    "another size in 206": ([Step(send=70_000), Step(data=DATA + b"x")], [None, "bytes=70000-", None]),
    "206 unasked": ([Step(status=206)], [None, None]),
    "416": ([Step(send=70_000), Step(status=416, data=b"")], [None, "bytes=70000-", None]),
    "500": ([Step(status=500, data=b"")], [None, None]),
    "503, come back later": ([Step(status=503, data=b"", headers={"Retry-After": "0"})], [None, None]),
    "damaged on the way, md5 stated": (
        [Step(data=DATA[:-1] + b"!", headers={"X-Goog-Hash": "crc32c=AAAAAA==,md5=gGL6FszwPLU2NtYy4los5Q=="})],
        [None, None],
    ),
    "damaged on the way, SHA-256 stated": (
        [Step(data=DATA[:-1] + b"!", headers={"X-Linked-ETag": f'"{SHA256}"'})], [None, None],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", MENDED)
def test_B13_faults_that_mend(server: Server, tmp_path: Path, fault: str) -> None:
    steps, ranges = MENDED[fault]
    server.steps = list(steps)
    path = fetch(server, tmp_path)
    assert path.read_bytes() == DATA
    assert [asked for _, asked in server.asked] == ranges
    assert visible(path) == {"vit.npz", ".vit.npz.pulled.json"}


@pytest.mark.parametrize("step", [Step(pause=60.0), Step(drip=0.01)], ids=["stall", "slow drip"])
def test_B13_stalls_are_cut_and_resumed(server: Server, tmp_path: Path, step: Step) -> None:
    server.steps = [step]
    assert fetch(server, tmp_path, how=QUICK).read_bytes() == DATA
    first, second = (asked for _, asked in server.asked)
    assert first is None and second is not None  # what had come was kept


def test_B13_an_answer_that_drips_is_cut(server: Server, tmp_path: Path) -> None:
    server.steps = [Step(late=0.01)]
    assert fetch(server, tmp_path, how=QUICK).read_bytes() == DATA
    assert len(server.asked) == 2


# what the server does -> (code, words of the message, bytes of a part that may be left)
FINAL: dict[str, tuple[list[Step], dict[str, object], str, str]] = {
    "wrong length": ([], {"size": 7}, "V207", "200,000 bytes, published are 7"),
    "wrong hash": ([], {"sha256": "0" * 64}, "V207", "published is 0000"),
    "wrong first digits": ([], {"sha256": "00000000"}, "V207", "published is 00000000"),
    "gzip": ([Step(headers={"Content-Encoding": "gzip"})], {}, "V704", "compressed"),
    "no length": ([Step(headers={"Content-Length": None})], {}, "V704", "how long"),
    "silly length": ([Step(headers={"Content-Length": "-5"})], {}, "V704", "how long"),
    "longer than the disk": ([Step(headers={"Content-Length": "9" * 15})], {}, "V701", "to come"),
    "404": ([Step(status=404)], {}, "V704", "404"),
    "403": ([Step(status=403)], {}, "V704", "403"),
    "204": ([Step(status=204, data=b"")], {}, "V704", "204"),
    "endless chunks": ([Step(chunked=True)], {"size": 1000}, "V207", "more than 1,000 bytes"),
    "redirect loop": ([Step(status=302, headers={"Location": "/a/vit.npz"})] * 9, {}, "V704", "more than 5 redirects"),
    "redirect nowhere": ([Step(status=302)] * 9, {}, "V704", "more than 5 redirects"),
    "redirect to file": ([Step(status=301, headers={"Location": "file:///etc/passwd"})], {}, "V704", "only https"),
    "redirect to ftp": ([Step(status=301, headers={"Location": "ftp://example.org/x"})], {}, "V704", "only https"),
    "redirect to http": ([Step(status=307, headers={"Location": "http://example.org/x"})], {}, "V704", "only https"),
    "redirect to private": ([Step(status=308, headers={"Location": "https://10.0.0.1/x"})], {}, "V704", "private"),
    "redirect to link-local": (
        [Step(status=302, headers={"Location": "https://169.254.169.254/latest"})], {}, "V704", "private",
    ),
    "redirect with a password": (
        [Step(status=302, headers={"Location": "https://a:b@example.org/x"})], {}, "V704", "plain address",
    ),
    "redirect to a broken address": ([Step(status=302, headers={"Location": "https://[x/"})], {}, "V704", "leads to"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FINAL)
def test_B13_faults_that_end_it(server: Server, tmp_path: Path, fault: str) -> None:
    steps, known, code, words = FINAL[fault]
    server.steps = list(steps)
    with pytest.raises(VitrailError) as caught:
        fetch(server, tmp_path, **known)
    error = caught.value
    assert error.code == code and words in str(error) and error.hint
    path = remote.place(f"{server.url}/a/vit.npz", tmp_path)
    assert not path.exists() and visible(path) <= {".vit.npz.part.json"}


def test_B13_tries_are_bounded_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    server.steps = [Step(send=70_000), *[Step(send=0)] * 50]
    with pytest.raises(SystemFault, match="cannot fetch") as caught:
        fetch(server, tmp_path)
    assert len(server.asked) == 4  # one that brought something, three in a row that did not
    path = remote.place(f"{server.url}/a/vit.npz", tmp_path)
    assert path.with_name("vit.npz.part").read_bytes() == DATA[:70_000]
    assert "70,000 bytes are kept" in str(caught.value) and str(path) in caught.value.hint
    server.steps = []
    server.asked.clear()
    assert fetch(server, tmp_path, sha256=SHA256).read_bytes() == DATA
    assert server.asked == [("/a/vit.npz", "bytes=70000-")]


def test_B13_pauses_grow_and_are_bounded(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(cache_module.time, "sleep", slept.append)
    server.steps = [Step(status=503, headers={"Retry-After": "9999"} if i == 6 else {}) for i in range(8)]
    fetch(server, tmp_path, how=remote.How(tries=9, pause=1.0, loopback=True))
    assert slept == [1, 2, 4, 8, 16, 30, 30, 30]


def test_B13_nobody_answers(tmp_path: Path) -> None:
    with Server() as gone:
        url = gone.url
    with pytest.raises(SystemFault) as caught:
        remote.pull(f"{url}/vit.npz", cache=tmp_path, how=HOW)
    error = caught.value
    assert error.code == "V704" and url in error.what and str(tmp_path) in error.hint and "by hand" in error.hint


def test_B13_a_server_without_tls(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SystemFault, match="cannot fetch") as caught:
        remote.pull(server.url.replace("http:", "https:") + "/vit.npz", cache=tmp_path, how=HOW)
    assert "SSLError" in str(caught.value) and server.asked == []


def test_B13_an_untrusted_certificate_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def connect(self: web.http.client.HTTPConnection) -> None:
        tries.append(self.host)
        raise ssl.SSLCertVerificationError("self-signed certificate")

    monkeypatch.setattr(web.http.client.HTTPSConnection, "connect", connect)
    with pytest.raises(SystemFault, match="cannot fetch") as caught:
        remote.pull("https://127.0.0.1:1/vit.npz", cache=tmp_path, how=HOW)
    assert "self-signed certificate" in str(caught.value) and tries == ["127.0.0.1"]


KILLED = """
import sys
from pathlib import Path
from vitrail import remote
how = remote.How(timeout=60.0, loopback=True)
remote.pull(sys.argv[1], cache=Path(sys.argv[2]), how=how, progress=lambda done, total: print(done, flush=True))
"""


def test_B13_a_kill_leaves_a_part_that_is_resumed(server: Server, tmp_path: Path) -> None:
    server.steps = [Step(pause=60.0)]
    url = f"{server.url}/a/vit.npz"
    with subprocess.Popen([sys.executable, "-c", KILLED, url, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        done = 0
        while done < len(DATA) - 1:
            done = int(child.stdout.readline())
        with pytest.raises(RunError, match="in use by process"):
            fetch(server, tmp_path)
        child.send_signal(signal.SIGKILL)
    path = remote.place(url, tmp_path)
    assert not path.exists() and path.with_name("vit.npz.part").read_bytes() == DATA[:-1]
    assert fetch(server, tmp_path, sha256=SHA256).read_bytes() == DATA
    assert server.asked == [("/a/vit.npz", None), ("/a/vit.npz", f"bytes={len(DATA) - 1}-")]


def test_a_part_that_is_whole_needs_no_net(server: Server, tmp_path: Path) -> None:
    """As a kill between the last byte and the new name leaves it."""
    server.steps = [Step(send=70_000), *[Step(send=0)] * 3]
    with pytest.raises(SystemFault):
        fetch(server, tmp_path)
    part = remote.place(f"{server.url}/a/vit.npz", tmp_path).with_name("vit.npz.part")
    part.write_bytes(DATA)
    server.asked.clear()
    assert fetch(server, tmp_path, sha256=SHA256).read_bytes() == DATA and server.asked == []


@pytest.mark.parametrize(
    "change",
    [{"url": "https://example.org/other"}, {"boot": "another"}, {"size": "many"}, {"etag": 'W/"one"'}, {"size": 3}],
)
def test_a_part_that_cannot_be_trusted_starts_again(server: Server, tmp_path: Path, change: dict[str, object]) -> None:
    server.steps = [Step(send=70_000), *[Step(send=0)] * 3]
    with pytest.raises(SystemFault):
        fetch(server, tmp_path)
    state = remote.place(f"{server.url}/a/vit.npz", tmp_path).with_name(".vit.npz.part.json")
    state.write_text(json.dumps(json.loads(state.read_text()) | change))
    server.steps, server.asked = [], []
    assert fetch(server, tmp_path).read_bytes() == DATA
    assert server.asked == [("/a/vit.npz", None)]


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"etag": 1}'])
def test_a_damaged_note_of_a_part_starts_again(server: Server, tmp_path: Path, text: str) -> None:
    path = remote.place(f"{server.url}/a/vit.npz", tmp_path)
    path.parent.mkdir(parents=True)
    path.with_name("vit.npz.part").write_bytes(b"x" * 100)
    path.with_name(".vit.npz.part.json").write_text(text)
    assert fetch(server, tmp_path).read_bytes() == DATA
    assert server.asked == [("/a/vit.npz", None)]


def test_a_part_that_turns_out_wrong_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.steps = [Step(send=70_000), *[Step(send=0)] * 3]
    with pytest.raises(SystemFault):
        fetch(server, tmp_path)
    part = remote.place(f"{server.url}/a/vit.npz", tmp_path).with_name("vit.npz.part")
    part.write_bytes(bytes(70_000))
    server.steps, server.asked = [], []
    assert fetch(server, tmp_path, sha256=SHA256).read_bytes() == DATA
    assert [asked for _, asked in server.asked] == ["bytes=70000-", None]


def test_C20_the_first_pull_is_noted_and_enforced(server: Server, tmp_path: Path) -> None:
    path = fetch(server, tmp_path)
    note = json.loads(path.with_name(".vit.npz.pulled.json").read_text())
    assert note == {"etag": ETAG, "sha256": SHA256, "size": len(DATA), "url": f"{server.url}/a/vit.npz"}
    path.write_bytes(DATA[::-1])
    with pytest.raises(WeightsError, match="is not the file of") as caught:
        fetch(server, tmp_path)
    assert caught.value.code == "V207" and "at the first pull it was" in str(caught.value)
    path.unlink()
    server.steps = [Step(data=DATA[::-1])]
    with pytest.raises(WeightsError, match="does not give the file") as caught:  # the publisher changed it
        fetch(server, tmp_path)
    assert ".vit.npz.pulled.json" in caught.value.hint and not path.exists()
    assert fetch(server, tmp_path).read_bytes() == DATA


def test_C20_published_hashes_hold_for_kept_files_too(server: Server, tmp_path: Path) -> None:
    path = fetch(server, tmp_path)
    assert fetch(server, tmp_path, sha256=SHA256[:8].upper(), size=len(DATA)) == path
    for known in ({"sha256": "00000000"}, {"size": 5}):
        with pytest.raises(WeightsError, match="published"):
            fetch(server, tmp_path, **known)


def test_C20_a_file_put_there_by_hand_is_checked_and_noted(server: Server, tmp_path: Path) -> None:
    path = remote.place(f"{server.url}/a/vit.npz", tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="published"):
        fetch(server, tmp_path, sha256=SHA256)
    path.write_bytes(DATA)
    assert fetch(server, tmp_path, sha256=SHA256) == path
    assert json.loads(path.with_name(".vit.npz.pulled.json").read_text())["sha256"] == SHA256
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.npz", "file:///etc/passwd", "ftp://example.org/a.npz", "//example.org/a.npz", "a.npz", "",
        "https:///a.npz", "https://localhost/a.npz", "https://127.0.0.1/a.npz", "https://[::1]/a.npz",
        "https://192.168.1.1/a.npz", "https://[fe80::1]/a.npz", "https://0.0.0.0/a.npz", "https://u:p@example.org/a.npz",
        "https://example.org:0/a.npz", "https://example.org:99999/a.npz", "https://exa mple.org/a.npz",
        "https://example.org/a\n.npz", "https://exämple.org/a.npz", "https://[/a.npz",
        "https://[::ffff:127.0.0.1]/a.npz",
    ],
)  # fmt: skip
def test_C20_what_is_never_fetched(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        remote.pull(url, cache=tmp_path)
    assert caught.value.code == "V007" and not any(tmp_path.iterdir())


def test_C20_this_machine_must_be_allowed_by_name(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only https is"):
        remote.pull(f"{server.url}/a.npz", cache=tmp_path)
    assert refused("http://127.0.0.1/a", HOW) == refused("https://localhost/a", HOW) == ""
    assert refused("http://10.0.0.1/a", HOW) and refused("https://10.0.0.1/a", HOW) and refused("file:///a", HOW)
    assert server.asked == []


def test_C20_a_name_that_leads_to_a_private_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that a connection really has is looked at, so no trick with names helps."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    port = server.server_address[1]
    real = web.http.client.HTTPConnection.connect

    def connect(self: web.http.client.HTTPConnection) -> None:
        self.host, self.port = "127.0.0.1", port
        real(self)

    monkeypatch.setattr(web.http.client.HTTPSConnection, "connect", connect)
    with pytest.raises(web.Never, match=r"127\.0\.0\.1, a private address"):
        web.ask("https://weights.example/vit.npz", {}, remote.How())
    assert server.asked == []


@pytest.mark.parametrize("url", ["https://example.org/", "https://example.org/a/..", "https://example.org/.bashrc",
                                 "https://example.org/a%2Fb", "https://example.org/%00a"])  # fmt: skip
def test_C20_names_are_plain(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="plain file name"):
        remote.place(url, tmp_path)


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert remote.cache_folder() == tmp_path / ".cache" / "vitrail"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert remote.cache_folder() == tmp_path / ".cache" / "vitrail"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert remote.cache_folder() == tmp_path / "c" / "vitrail"
    assert remote.place("https://example.org/a/x.npz").is_relative_to(tmp_path / "c" / "vitrail" / "example.org")
    assert remote.place("https://example.org/a/x.npz") != remote.place("https://example.org/b/x.npz")


def test_chunks_of_a_known_size_are_taken(server: Server, tmp_path: Path) -> None:
    server.steps = [Step(chunked=True)]
    assert fetch(server, tmp_path, size=len(DATA)).read_bytes() == DATA
    server.steps = [Step(chunked=True, send=1000)]
    assert fetch(server, tmp_path, name="b.npz").read_bytes() == DATA  # cut: from the start again


def test_a_full_disk_is_the_disks_fault(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "free_space", lambda path: 10)
    with pytest.raises(SystemFault, match="cannot write"):
        fetch(server, tmp_path)


# ---- the hub


def hub(server: Server, place: Path, files: dict[str, bytes]) -> Path:
    server.files = files
    return remote.pull_hub("google/vit-tiny", cache=place, how=HOW, base=server.url)


CONFIG = {"config.json": b"{}", "preprocessor_config.json": b"{}"}
INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
SHARDS = {"model-00001-of-00002.safetensors": b"1", "model-00002-of-00002.safetensors": b"2"}
HUBS: dict[str, tuple[dict[str, bytes], set[str]]] = {
    "safetensors": ({"model.safetensors": b"w", "pytorch_model.bin": b"w"}, {"model.safetensors"}),
    "bin": ({"pytorch_model.bin": b"w"}, {"pytorch_model.bin"}),
    "shards": ({"model.safetensors.index.json": INDEX.encode(), **SHARDS}, {"model.safetensors.index.json", *SHARDS}),
}


@pytest.mark.parametrize("kind", HUBS)
def test_a_hub_model_is_a_folder(server: Server, tmp_path: Path, kind: str) -> None:
    files, wanted = HUBS[kind]
    folder = hub(server, tmp_path, CONFIG | files)
    assert folder == remote.hub_place("google/vit-tiny", tmp_path)
    assert {path.name for path in folder.iterdir() if path.name[0] != "."} == {*CONFIG, *wanted}
    assert server.asked[0][0] == "/google/vit-tiny/resolve/main/config.json"
    server.asked.clear()
    assert hub(server, tmp_path, {}) == folder and server.asked == []  # whole: no net
    (folder / "config.json").unlink()
    hub(server, tmp_path, CONFIG | files)
    assert len(server.asked) == 1  # what is missing comes again
    (folder / sorted(wanted)[0]).write_bytes(b"other")
    with pytest.raises(WeightsError, match="is not the file of"):
        hub(server, tmp_path, {})


def test_a_hub_model_may_lack_its_picture_settings(server: Server, tmp_path: Path) -> None:
    folder = hub(server, tmp_path, {"config.json": b"{}", "model.safetensors": b"w"})
    assert not (folder / "preprocessor_config.json").exists()


@pytest.mark.parametrize("files", [{}, CONFIG, {"model.safetensors": b"w"}])
def test_a_hub_name_without_a_model(server: Server, tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(SystemFault, match="no model that can be fetched") as caught:
        hub(server, tmp_path, files)
    assert caught.value.code == "V704" and str(tmp_path) in caught.value.hint


def test_a_hub_folder_filled_by_hand_needs_no_net(server: Server, tmp_path: Path) -> None:
    folder = remote.hub_place("google/vit-tiny", tmp_path)
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "pytorch_model.bin").write_bytes(b"w")
    assert hub(server, tmp_path, {}) == folder
    assert server.asked == []


@pytest.mark.parametrize(
    "shard", ["../../x.bin", "/etc/x.bin", "a/b.bin", "x.py", "", 5, None, "x\n.bin", ".hidden.bin", "a" * 300 + ".bin"]
)
def test_C20_an_index_leads_nowhere_else(server: Server, tmp_path: Path, shard: object) -> None:
    index = json.dumps({"weight_map": {"a": shard}}).encode()
    with pytest.raises(WeightsError) as caught:
        hub(server, tmp_path, CONFIG | {"pytorch_model.bin.index.json": index})
    assert caught.value.code == "V202"


@pytest.mark.parametrize("text", [b"", b"[]", b'{"weight_map": 3}', b'{"weight_map": {}}'])
def test_an_index_that_names_nothing(server: Server, tmp_path: Path, text: bytes) -> None:
    with pytest.raises(WeightsError, match="names no files"):
        hub(server, tmp_path, CONFIG | {"model.safetensors.index.json": text})


def test_a_shard_that_is_not_published(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="which is not there"):
        hub(server, tmp_path, CONFIG | {"model.safetensors.index.json": INDEX.encode()})


@pytest.mark.parametrize("name", ["", "vit", "a/b/c", "../x", "a/..", "/a", "a/", "a b/c", "ä/b", "a/b\n"])
def test_C20_hub_names_are_plain(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no model of the hub"):
        remote.pull_hub(name, cache=tmp_path)


@pytest.mark.prove
def test_B13_random_schedules(server: Server, tmp_path: Path) -> None:
    """Any mixture of faults ends with the right file or with a coded error, and never with a wrong file."""
    draw = random.Random(13)
    faults = [step for steps, _ in MENDED.values() for step in steps]
    faults += [step for steps, known, _, _ in FINAL.values() if not known for step in steps]
    ended = {"right": 0, "refused": 0}
    for trial in range(300):
        server.steps = [draw.choice(faults) for _ in range(draw.randrange(1, 6))]
        sha256 = SHA256 if draw.random() < 0.8 else None
        with contextlib.suppress(VitrailError):
            fetch(server, tmp_path, name=f"{trial}.npz", sha256=sha256)
        path = remote.place(f"{server.url}/a/{trial}.npz", tmp_path)
        if path.exists():
            assert sha256 is None or path.read_bytes() == DATA
        ended["right" if path.exists() else "refused"] += 1
        assert not any(entry.name.startswith(disk.ASIDE) for entry in path.parent.iterdir())
    assert min(ended.values()) > 20, ended
