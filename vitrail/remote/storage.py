"""Object stores through fsspec, which no other file knows: what lies under one address, its bytes, files put there."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from vitrail.errors import UsageError, nearest
from vitrail.remote.web import Absent, Again, How, Never, said

T = TypeVar("T")

# scheme -> the package that fsspec needs for it, or nothing
SCHEMES = {"s3": "s3fs", "gs": "gcsfs", "obs": "s3fs", "memory": ""}
_SLOWEST = 1 << 20  # bytes a second that a sent file has beyond the timeout
_ENDPOINT = "FSSPEC_OBS_ENDPOINT_URL"


@dataclass(frozen=True)
class Stored:
    """A file as the store lists it. path: below the address, "" for itself. tag: another one means other bytes."""

    path: str
    size: int
    tag: str
    md5: str = ""


class Store:
    """One address of an object store."""

    def __init__(self, url: str, how: How) -> None:
        self._how = how
        self._system, self._root = _opened(url)

    def listed(self) -> list[Stored]:
        """Every file at or below the address, by the bytes of its path; Absent for none, Again or Never otherwise."""
        info = self._asked(lambda: self._system.info(self._root))
        if info.get("type") == "file":
            return [_stored("", info)]
        found = self._asked(lambda: self._system.find(self._root, detail=True))
        lead = self._root.rstrip("/") + "/"
        files = [(name, one) for name, one in found.items() if one.get("type") == "file" and not name.endswith("/")]
        strange = [name for name, _ in files if not name.startswith(lead)]
        if strange:
            raise Never(f"the store lists `{strange[0]:.100}` below `{lead:.100}`")
        if not files:
            raise Absent("there are no files")
        return sorted((_stored(name[len(lead) :], one) for name, one in files), key=lambda one: one.path.encode())

    def tag(self, path: str) -> str:
        """The tag of a file now."""
        return _stored(path, self._asked(lambda: self._system.info(self._at(path)))).tag

    def read(self, path: str, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` - 1 of a file, fewer where the line is cut."""
        data = self._asked(lambda: self._system.cat_file(self._at(path), start=start, end=stop))
        if not isinstance(data, bytes) or len(data) > stop - start:
            raise Again(f"other than the {stop - start:,} bytes that were asked for")
        return data

    def write(self, place: Path, path: str) -> None:
        """Put a local file under this path, in place of what is there; what is read meanwhile is one of both, whole."""
        size = place.stat().st_size
        self._asked(lambda: self._system.put_file(str(place), self._at(path)), more=size / _SLOWEST)
        there = self._asked(lambda: self._system.info(self._at(path))).get("size")
        if there != size:
            raise Again(f"{there} bytes arrived of {size:,}")

    def remove(self, path: str) -> None:
        """Remove a file; Absent when there is none."""
        self._asked(lambda: self._system.rm_file(self._at(path)))

    def _at(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}" if path else self._root

    def _asked(self, call: Callable[[], T], *, more: float = 0.0) -> T:
        """What a call gives in time. Stores raise what they like: absence and refusal end it, the rest may mend."""
        try:
            return _within(self._how.timeout + more, call)
        except (Again, Never):
            raise
        except FileNotFoundError as error:
            raise Absent(f"nothing is there ({said(error)[:200]})") from error
        except (PermissionError, ImportError, NotImplementedError) as error:
            raise Never(said(error)[:300]) from error
        except Exception as error:  # whatever the client of a store calls its faults
            raise Again(said(error)[:300]) from error


def _within(seconds: float, call: Callable[[], T]) -> T:
    """The value of a call, or Again when it takes longer; it is then left behind in its thread."""
    done: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(call())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True, name="store")
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise Again(f"no answer in {seconds:g} seconds")
    return done[0]


def _opened(url: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it; UsageError V003 or V007."""
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise UsageError("V007", f"`{url}` is of no known store", hint=nearest(scheme, ("https", *SCHEMES)))
    if "::" in url or not url.isprintable() or ".." in url.split("/") or "@" in urlsplit(url).netloc:
        raise UsageError("V007", f"`{url}` is no plain address of a store", hint="write SCHEME://BUCKET/PATH")
    try:
        import fsspec
    except ImportError as error:
        raise _absent("fsspec") from error
    options: dict[str, Any] = {}
    if scheme == "obs" and "obs" not in fsspec.available_protocols():
        options = dict(fsspec.config.conf.get("obs", {}))
        if "endpoint_url" not in options:
            raise UsageError(
                "V007",
                f"`{url}`: which endpoint of OBS is not said",
                hint=f"set {_ENDPOINT}=https://obs.REGION.myhuaweicloud.com, with FSSPEC_OBS_KEY and FSSPEC_OBS_SECRET",
            )
        scheme = "s3"
    try:
        system = fsspec.filesystem(scheme, **options)
    except ImportError as error:
        raise _absent(SCHEMES[scheme]) from error
    except (ValueError, TypeError, OSError) as error:
        raise UsageError("V007", f"`{url}`: {said(error)[:300]}", hint="check the settings of fsspec") from error
    path = url.partition("://")[2]
    return system, f"/{path}" if scheme == "memory" else path


def _absent(package: str) -> UsageError:
    extra = 'pip install "vitrail[remote]"' if package in ("fsspec", "s3fs") else f"pip install {package}"
    return UsageError("V003", f"this address needs {package}, which is not installed", hint=extra)


def _stored(path: str, info: dict[str, Any]) -> Stored:
    size = info.get("size")
    if not isinstance(size, int) or size < 0:
        raise Never(f"the store does not say how long `{path:.100}` is")
    names = ("ETag", "etag", "md5Hash", "checksum", "LastModified", "mtime", "modified", "updated", "created")
    value = next((info[name] for name in names if info.get(name)), "")
    tag = str(value.timestamp() if isinstance(value, datetime) else value)  # a listing may have it as seconds
    return Stored(path, size, tag, _md5(info.get("md5Hash")))


def _md5(value: object) -> str:
    """The MD5 that Google's storage states, in hex."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9+/]{22}==", value):
        return ""
    try:
        return base64.b64decode(value).hex()
    except binascii.Error:
        return ""
