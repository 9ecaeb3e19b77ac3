"""The hashed cache: a file gets its name only when it is whole and right, and stays the file of the first pull.

A file is fetched into NAME.part. A fetch that was cut, or killed, goes on where it stopped if the server vouches with
an equal ETag that it still has the same file.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from vitrail import disk
from vitrail.errors import SystemFault, UsageError, WeightsError, read_fault, write_fault
from vitrail.locks import locked
from vitrail.remote.web import Absent, Again, How, Never, Stale, ask, refused, said

SMALL = 32 << 20  # bytes that a description (JSON) may have, and a file of no stated length
SLOWEST = 512  # bytes a second; what comes slower counts as stalled

Progress = Callable[[int, int], object]  # (bytes so far, bytes in all)


@dataclass(frozen=True)
class Wanted:
    """One file: where it is published, where it will lie, and what is known of it before."""

    url: str
    path: Path
    size: int | None = None
    sha256: str = ""  # whole, or the first digits that are published
    limit: int | None = None  # bytes, where the size is not known
    progress: Progress | None = None
    how: How = How()

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def state(self) -> Path:
        """What is known of the part: url, ETag, size, and the boot of the machine that wrote it."""
        return self.path.with_name(f".{self.path.name}.part.json")

    @property
    def record(self) -> Path:
        """What the first pull noted, enforced ever after."""
        return self.path.with_name(f".{self.path.name}.pulled.json")


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/vitrail`, or `~/.cache/vitrail`."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "vitrail"


def place(url: str, cache: Path | None = None) -> Path:
    """Where `pull` keeps the file of a URL, and where a file fetched by hand may be put.

    >>> place("https://example.org/a/vit.npz", Path("/cache")).as_posix()
    '/cache/example.org/a28ff01aa62a/vit.npz'
    """
    parts = urlsplit(url)
    name = unquote(parts.path.rsplit("/", 1)[-1])
    if not re.fullmatch(r"[\w+][\w+.,=@() -]{0,199}", name, re.ASCII):
        raise UsageError("V007", f"`{url}` does not end in a plain file name", hint="give the URL of one file")
    digest = disk.sha256_bytes(url.encode())[:12]
    return (cache or cache_folder()) / (parts.hostname or "") / digest / name


def is_pulled(url: str, cache: Path | None = None) -> bool:
    """Whether `pull` would find the file in the cache."""
    return place(url, cache).is_file()


def pull(
    url: str,
    *,
    size: int | None = None,
    sha256: str | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
    how: How | None = None,
) -> Path:
    """The file of a URL in the cache, fetched if it is not there; the same bytes as at the first pull.

    size: exact bytes, where published. sha256: whole, or the first digits that are published.
    UsageError V007 for a URL that is never fetched; SystemFault V704 when it cannot be fetched (what came is kept);
    WeightsError V207 when it is not the published file; RunError V606 while another process fetches it.
    """
    how = how or How()
    why = refused(url, how)
    if why:
        raise UsageError("V007", f"`{url}` is not fetched: {why}", hint="give an https URL, or fetch it by hand")
    wanted = Wanted(url, place(url, cache), size, (sha256 or "").lower(), None, progress, how)
    if wanted.path.is_file() and wanted.record.is_file():
        check(wanted, disk.sha256_file(wanted.path))
        return wanted.path
    disk.make_folder(wanted.path.parent)
    with locked(wanted.path.parent):
        try:
            bring(wanted)
        except Absent as error:
            raise _fault(wanted, str(error)) from error
    return wanted.path


def bring(wanted: Wanted) -> None:
    """The file in its place, checked, with a record; Absent when it is not published.

    Only for whoever holds the lock of its folder. Errors otherwise as `pull`.
    """
    recorded = read_json(wanted.record) if wanted.record.is_file() else {}
    if not wanted.path.is_file():
        _note(wanted, *_download(wanted, str(recorded.get("sha256", ""))))
        try:
            os.replace(wanted.part, wanted.path)
            disk.fsync_folder(wanted.path.parent)
        except OSError as error:
            raise write_fault(error, wanted.path) from error
        wanted.state.unlink(missing_ok=True)
        return
    digest = disk.sha256_file(wanted.path)
    check(wanted, digest)
    if not recorded:  # put there by hand
        _note(wanted, digest, wanted.path.stat().st_size, "")


def _note(wanted: Wanted, sha256: str, size: int, etag: str) -> None:
    values = {"etag": etag, "sha256": sha256, "size": size, "url": wanted.url}
    disk.write_file(wanted.record, (json.dumps(values, indent=1) + "\n").encode())


def check(wanted: Wanted, digest: str) -> None:
    """The file is the published one, and the one of the first pull; WeightsError V207 otherwise."""
    size = wanted.path.stat().st_size
    recorded = read_json(wanted.record) if wanted.record.is_file() else {}
    wrong = []
    if wanted.size is not None and size != wanted.size:
        wrong.append(f"{size:,} bytes, published are {wanted.size:,}")
    if not digest.startswith(wanted.sha256):
        wrong.append(f"SHA-256 {digest}, published is {wanted.sha256}")
    if recorded and digest != recorded.get("sha256"):
        wrong.append(f"SHA-256 {digest}, at the first pull it was {recorded.get('sha256')}")
    if wrong:
        raise WeightsError(
            "V207",
            f"`{wanted.path}` is not the file of {wanted.url}",
            evidence=wrong,
            hint="remove it, and pull it again",
        )


def _download(wanted: Wanted, recorded: str) -> tuple[str, int, str]:
    """Fetch into the part until it is whole and right; gives SHA-256, bytes and ETag."""
    idle = 0
    for _ in range(20 * wanted.how.tries):
        before = _size(wanted.part)
        try:
            return _try(wanted, recorded)
        except Absent:
            raise
        except Never as error:
            raise _fault(wanted, str(error)) from error
        except Again as error:
            if isinstance(error, Stale):
                _forget(wanted)
            idle = 0 if _size(wanted.part) > before else idle + 1
            why = str(error)
            if idle >= wanted.how.tries:
                break
            time.sleep(min(max(wanted.how.pause * 2 ** max(0, idle - 1), error.wait), 30.0))
    raise _fault(wanted, why)


def _try(wanted: Wanted, recorded: str) -> tuple[str, int, str]:
    start, state = _resumable(wanted)
    if start and start == state["size"]:  # it was ended between the last byte and the new name
        return _verified(wanted, state, recorded, resumed=True), start, state["etag"]
    headers = {"Accept-Encoding": "identity", "User-Agent": "vitrail"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": state["etag"]}
    response, known = ask(wanted.url, headers, wanted.how)
    with response:
        resumed = response.status == 206
        total: int | None
        if resumed:
            total = _continued(response, start, state)
            known = {**state, **known}
        else:
            start, total = 0, _length(wanted, response)
            etag = response.headers.get("ETag", "")
            known |= {"boot": _boot(), "etag": etag, "size": total, "url": wanted.url}
            _room(wanted, total)
            disk.write_file(wanted.state, (json.dumps(known) + "\n").encode())
        done = _copy(wanted, response, start, total)
    if total is not None and done != total:
        raise Again(f"cut off after {done:,} of {total:,} bytes")
    return _verified(wanted, known, recorded, resumed=resumed), done, known["etag"]


def _resumable(wanted: Wanted) -> tuple[int, dict[str, Any]]:
    """Bytes of the part that may be continued, with what is known of them.

    Only of this URL, with a strong ETag, and not from before the machine started: a power loss may leave holes.
    """
    have = _size(wanted.part)
    state = read_json(wanted.state) if have and wanted.state.is_file() else {}
    etag, size = state.get("etag"), state.get("size")
    strong = isinstance(etag, str) and re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', etag)
    same = (state.get("url"), state.get("boot")) == (wanted.url, _boot())
    return (have, state) if strong and same and isinstance(size, int) and have <= size else (0, {})


def _continued(response: http.client.HTTPResponse, start: int, state: Mapping[str, Any]) -> int:
    """The size in all of a file that the server goes on with; Stale where it is another file, or another part."""
    size = int(state.get("size", 0))
    right = response.headers.get("Content-Range") == f"bytes {start}-{size - 1}/{size}"
    if not start or not right or response.headers.get("ETag") != state["etag"]:
        raise Stale("the server went on with another file, or with another part of it")
    return size


def _length(wanted: Wanted, response: http.client.HTTPResponse) -> int | None:
    """Bytes that a whole answer will have; None where it comes in chunks, which say themselves when they end."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _fault(wanted, f"it comes compressed ({response.headers['Content-Encoding']}), which was not asked for")
    text = response.headers.get("Content-Length", "")
    if not re.fullmatch(r"\d{1,15}", text):
        if response.headers.get("Transfer-Encoding", "").lower() != "chunked":
            raise _fault(wanted, "the server does not say how long it is")
        return None
    total = int(text)
    if wanted.size is not None and total != wanted.size:
        raise _other(wanted, f"{total:,} bytes, published are {wanted.size:,}")
    if wanted.limit is not None and total > wanted.limit:
        raise _other(wanted, f"{total:,} bytes, the limit is {wanted.limit:,}")
    return total


def _copy(wanted: Wanted, response: http.client.HTTPResponse, start: int, total: int | None) -> int:
    """Append what comes to the part, from byte `start`; gives its length. On failure what came is kept."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    limit = next((n for n in (total, wanted.size, wanted.limit) if n is not None), SMALL)
    patience = wanted.how.timeout
    try:
        with os.fdopen(os.open(wanted.part, flags, 0o644), "wb") as file:
            file.truncate(start)
            file.seek(start)
            done, window, since = start, 0, time.monotonic()
            while data := _received(response):
                done, window = done + len(data), window + len(data)
                if done > limit:
                    raise _other(wanted, f"more than {limit:,} bytes")
                file.write(data)
                file.flush()  # a kill now loses nothing
                if wanted.progress is not None:
                    wanted.progress(done, total or done)
                if time.monotonic() - since >= patience:
                    if window < SLOWEST * patience:
                        raise Again(f"only {window:,} bytes in {patience:g} seconds")
                    window, since = 0, time.monotonic()
            os.fsync(file.fileno())
    except OSError as error:  # the disk's: `_received` turns the net's into another try
        raise write_fault(error, wanted.part) from error
    return done


def _received(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(disk.CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise Again(said(error)) from error


def _verified(wanted: Wanted, known: Mapping[str, Any], recorded: str, *, resumed: bool) -> str:
    """SHA-256 of the whole part. What the server says in passing is for another try, what was published for none."""
    digest = disk.sha256_file(wanted.part)
    if wanted.size is not None and _size(wanted.part) != wanted.size:
        wrong = f"{_size(wanted.part):,} bytes, published are {wanted.size:,}"
    elif not digest.startswith(wanted.sha256):
        wrong = f"SHA-256 {digest}, published is {wanted.sha256}"
    elif recorded and digest != recorded:
        wrong = f"SHA-256 {digest}, at the first pull it was {recorded}"
    elif known.get("sha256", digest) != digest or known.get("md5") not in (None, _md5(wanted)):
        raise Stale("what came has another hash than the server stated")
    else:
        return digest
    if resumed:
        raise Stale(wrong)
    raise _other(wanted, wrong)


def _md5(wanted: Wanted) -> str:
    with open(wanted.part, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _room(wanted: Wanted, total: int | None) -> None:
    free = disk.free_space(wanted.path.parent)
    if total is not None and total > free:
        raise write_fault(OSError(errno.ENOSPC, f"{total:,} bytes are to come, {free:,} are free"), wanted.part)


def _fault(wanted: Wanted, why: str) -> SystemFault:
    kept = _size(wanted.part)
    evidence = [why, *([f"{kept:,} bytes are kept in {wanted.part}"] if kept else [])]
    return SystemFault(
        "V704",
        f"cannot fetch {wanted.url}",
        evidence=evidence,
        hint=f"run the same command again when the net is there, or fetch it by hand and put it at `{wanted.path}`",
    )


def _other(wanted: Wanted, wrong: str) -> WeightsError:
    """The refusal of what came, of which nothing is kept."""
    _forget(wanted)
    return WeightsError(
        "V207",
        f"{wanted.url} does not give the file that is wanted",
        evidence=[wrong],
        hint=f"nothing was kept; if the file was published anew, look at it, then remove `{wanted.record}`"
        if wanted.record.is_file()
        else "nothing was kept; fetch it from another place",
    )


def _forget(wanted: Wanted) -> None:
    wanted.part.unlink(missing_ok=True)
    wanted.state.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise read_fault(error, path) from error


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON object; nothing for anything else, so that a damaged note is as none."""
    try:
        values = json.loads(disk.read_file(path, limit=SMALL))
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _boot() -> str:
    """This start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
