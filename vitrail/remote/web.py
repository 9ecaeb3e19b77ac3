"""One answer of a server: https only, redirects followed by hand, nothing read from this machine or its network."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit


@dataclass(frozen=True, kw_only=True)
class How:
    """How patiently, and from where. loopback: also this machine's own servers, and they by plain http."""

    timeout: float = 30.0  # seconds without a byte, or of less than `SLOWEST`
    tries: int = 5  # in a row that bring nothing new
    pause: float = 1.0  # seconds before the second try; doubled each time, at most 30
    redirects: int = 5
    loopback: bool = False


class Again(Exception):
    """This try failed; another one may not. wait: the seconds that the server asks for."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class Never(Exception):
    """No try will give the file."""


class Absent(Never):
    """The server has no such file."""


class Stale(Again):
    """What was fetched so far is of no use to the server."""


def ask(url: str, headers: Mapping[str, str], how: How) -> tuple[http.client.HTTPResponse, dict[str, Any]]:
    """The answer 200 or 206 after redirects, and the hashes that were stated on the way; Again, Never or Absent."""
    known: dict[str, Any] = {}
    for _ in range(how.redirects + 1):
        why = refused(url, how)
        if why:
            raise Never(f"it leads to `{url:.200}`: {why}")
        response = _asked(url, headers, how)
        known |= _hashes(response)
        if response.status in (200, 206):
            return response, known
        response.close()
        if response.status not in (301, 302, 303, 307, 308):
            raise _answered(response)
        place = response.headers.get("Location", "")
        try:
            url = urljoin(url, place)
        except ValueError as error:
            raise Never(f"it leads to `{place:.200}`: {error}") from error
    raise Never(f"more than {how.redirects} redirects")


def _answered(response: http.client.HTTPResponse) -> Exception:
    text = f"the server says {response.status} {response.reason}"
    if response.status in (404, 410):
        return Absent(text)
    if response.status == 416:
        return Stale(text)
    if response.status in (408, 425, 429, 500, 502, 503, 504):
        after = response.headers.get("Retry-After", "")
        return Again(text, wait=float(after) if re.fullmatch(r"\d{1,4}", after) else 0.0)
    return Never(text)


def _hashes(response: http.client.HTTPResponse) -> dict[str, Any]:
    """Hashes of the whole file that Google's storage and the hub state in their headers."""
    found: dict[str, Any] = {}
    linked = re.fullmatch(r'"([0-9a-f]{64})"', response.headers.get("X-Linked-ETag", ""))
    if linked:
        found["sha256"] = linked[1]
    md5 = re.search(r"md5=([A-Za-z0-9+/]{22}==)", ",".join(response.headers.get_all("X-Goog-Hash") or []))
    if md5:
        found["md5"] = base64.b64decode(md5[1]).hex()
    return found


def _asked(url: str, headers: Mapping[str, str], how: How) -> http.client.HTTPResponse:
    watch = _Watch()
    opener = urllib.request.OpenerDirector()  # no handlers but these: no redirects, files or passwords by themselves
    if how.loopback:
        opener.add_handler(_Http(watch))
    else:
        opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(_Https(watch, how.loopback))
    timer = threading.Timer(2 * how.timeout, watch.cut)
    timer.start()
    try:
        answer = opener.open(urllib.request.Request(url, headers=dict(headers)), timeout=how.timeout)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, (ssl.SSLCertVerificationError, _Private)):
            raise Never(said(reason)) from error
        raise Again(said(reason)) from error
    finally:
        timer.cancel()
    assert isinstance(answer, http.client.HTTPResponse)
    if watch.is_cut:
        answer.close()
        raise Again(f"no answer in {2 * how.timeout:g} seconds")
    return answer


class _Watch:
    """Cuts the line of an answer that drips: a timeout of the socket hears every single byte."""

    def __init__(self) -> None:
        self.is_cut = False
        self.line: socket.socket | None = None

    def cut(self) -> None:
        self.is_cut = True
        if self.line is not None:
            with contextlib.suppress(OSError):  # it is closed already
                self.line.shutdown(socket.SHUT_RDWR)


class _Private(OSError):
    """The name of the server means an address that is not on the net."""


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        watch = self._watch

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                watch.line = self.sock

        return self.do_open(Connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: _Watch, loopback: bool) -> None:
        super().__init__()
        self._watch, self._loopback = watch, loopback

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        watch = self._watch
        anywhere = self._loopback or req.host != urlsplit(req.full_url).netloc  # or through a proxy, which is near

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                watch.line = self.sock
                address = self.sock.getpeername()[0]
                if not anywhere and not ipaddress.ip_address(address).is_global:  # before a word is said
                    self.close()
                    raise _Private(f"{self.host} is {address}, a private address")

        return self.do_open(Connection, req, context=ssl.create_default_context())


def refused(url: str, how: How) -> str:
    """Why a URL is never fetched, or nothing."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        return str(error)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    near = host == "localhost" or (address is not None and address.is_loopback)
    if how.loopback and near and parts.scheme in ("http", "https"):
        return ""
    if parts.scheme != "https":
        return "only https is"
    if not host or "@" in parts.netloc or port == 0 or not url.isascii() or not url.isprintable() or " " in url:
        return "it is no plain address"
    if near or (address is not None and not address.is_global):
        return f"{host} is a private address"
    return ""


def said(error: BaseException) -> str:
    """An error of the net in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
