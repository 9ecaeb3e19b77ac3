"""npz, NumPy's zip of arrays: read by own strict rules, written so that `numpy.load` opens it.

    a.npy   \\x93NUMPY 1 0 | length | {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } \\n | elements

Weights of Google Research come so, with names like `Transformer/encoderblock_0/LayerNorm_0/scale`; JAX's bfloat16
stands there as raw pairs of bytes (`V2`).  The header's text is matched against the one form that arrays of numbers
take: nothing in it is evaluated, and an array of objects ends the reading.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from vitrail import disk
from vitrail.errors import UsageError, WeightsError
from vitrail.formats.bounds import TENSORS, check_names, check_shape, damaged, hostile, shown
from vitrail.formats.held import Held, hold, room
from vitrail.formats.stored import DTYPES, Stored, Tensors, bools_are_bits
from vitrail.formats.zip_directory import Member, members, stored_bytes

HEADER = 10_000  # bytes of one header, NumPy's own limit; it writes 118
RATIO = 200  # bytes that one deflated byte may become, once a member is larger than the next number
RATIO_FROM = 1 << 20
GROWTH = 8  # all members together, against the file, with 64 MiB on top

_MAGIC = b"\x93NUMPY"
_SAVE = "save plain arrays of numbers: numpy.savez(PATH, **arrays), or safetensors"

# NumPy's kind and width -> our word
_WORDS = {code[1:]: word for word, (_, code) in DTYPES.items() if word != "BF16"} | {"V2": "BF16"}


class _Head(NamedTuple):
    """What the header of one array says; `start` is where its elements begin inside the member."""

    dtype: str
    big: bool
    fortran: bool
    shape: tuple[int, ...]
    start: int


def read(path: Path, *, sha256: str | None = None) -> Tensors:
    """All arrays of a file by name, in the order of the file.

    WeightsError V201 for damaged bytes or another SHA-256 than the given one (then nothing was parsed), V202 for what
    exceeds a limit, for arrays of objects and for names that two readers could see differently; SystemFault V702 when
    the file cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder) / "w.npz", {"head/bias": Stored("U8", (3,), b"abc")})
    ...     read(Path(folder) / "w.npz")["head/bias"].shape
    (3,)
    """
    with hold(path, sha256=sha256) as file:
        return parse(file)


def parse(file: Held) -> Tensors:
    """As `read`, from a file that is already held.  Every header is read before the first array is."""
    found = members(file)
    _check_members(found, file)
    heads = {name: _head(member, file) for name, member in found.items()}
    return {name.removesuffix(".npy"): _array(found[name], head, file) for name, head in heads.items()}


def _check_members(found: dict[str, Member], file: Held) -> None:
    if len(found) > TENSORS:
        raise hostile(file.path, f"more than {TENSORS} arrays")
    for name, member in found.items():
        if not name.endswith(".npy"):
            raise hostile(file.path, f"the member `{shown(name)}` is no array", hint=_SAVE)
        if name.removesuffix(".npy") in found:  # NumPy gives either, by how it is asked
            raise hostile(file.path, f"the members `{shown(name)}` and `{shown(name.removesuffix('.npy'))}` collide")
        if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise hostile(file.path, f"`{shown(name)}` is compressed by method {member.method}", hint=_SAVE)
        if member.method == zipfile.ZIP_STORED and member.packed != member.size:
            raise hostile(file.path, f"`{shown(name)}` is stored, yet has two sizes")
        if member.size > RATIO_FROM and member.size > RATIO * member.packed:
            raise hostile(
                file.path,
                f"`{shown(name)}` is {member.packed} bytes that become {member.size}, the limit is {RATIO} for one",
                hint="if the file is honest, save it again without compression: numpy.savez",
            )
    check_names([name.removesuffix(".npy") for name in found], file.path)
    total = sum(member.size for member in found.values())
    if total > GROWTH * file.size + (64 << 20):
        raise hostile(file.path, f"{file.size} bytes that become {total}", hint="save it again without compression")


def _head(member: Member, file: Held) -> _Head:
    magic = _beginning(member, 12, file)
    if len(magic) < 12 or magic[:6] != _MAGIC:
        raise damaged(file.path, f"`{shown(member.name)}` is no array of NumPy", hint=_SAVE)
    if magic[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
        version = f"{magic[6]}.{magic[7]}"
        raise damaged(file.path, f"`{shown(member.name)}` is of layout {version}, known are 1.0 to 3.0", hint=_SAVE)
    begin = 10 if magic[6] == 1 else 12
    length = int.from_bytes(magic[8:begin], "little")
    if length > HEADER:
        raise hostile(file.path, f"`{shown(member.name)}` has a header of {length} bytes, the limit is {HEADER}")
    if begin + length > member.size:
        raise damaged(file.path, f"the header of `{shown(member.name)}` goes beyond its {member.size} bytes")
    head = _parsed(_beginning(member, begin + length, file)[begin:], begin + length, member, file)
    expected = math.prod(head.shape) * DTYPES[head.dtype][0]
    if head.start + expected != member.size:
        raise damaged(
            file.path,
            f"`{shown(member.name)}`: {head.dtype} {head.shape} takes {expected} bytes, not {member.size - head.start}",
        )
    return head


_KEY = re.compile(rb"""[ ]*+(['"])(\w++)\1[ ]*+:[ ]*+""")
_FORMS = {
    "descr": re.compile(rb"""(['"])([<>|=]?\w*+)\1"""),
    "fortran_order": re.compile(rb"True|False"),
    "shape": re.compile(rb"\(([0-9, ]*+)\)"),
}
_COMMA = re.compile(rb"[ ]*+(,?+)")
_END = re.compile(rb"[ ]*+\}[ ]*+\n")
_SIZES = re.compile(rb"[ ]*+(?:(?:(?:0|[1-9][0-9]{0,19}+)[ ]*+,[ ]*+)++(?:0|[1-9][0-9]{0,19}+)?+[ ]*+)?+")


def _parsed(text: bytes, start: int, member: Member, file: Held) -> _Head:
    """The three entries of the header's dict, in any order; nothing else can stand there."""
    where = f"the header of `{shown(member.name)}`"
    found: dict[str, re.Match[bytes]] = {}
    at, more = 1, text.startswith(b"{")
    while more and (match := _KEY.match(text, at)):
        key = match[2].decode("latin-1")
        if key not in _FORMS or key in found:
            raise hostile(file.path, f"{where} has the key `{shown(key)}` twice or too much")
        value = _FORMS[key].match(text, match.end())
        if value is None:
            raise _no_value(key, text[match.end() :], where, file)
        found[key] = value
        comma = _COMMA.match(text, value.end())
        assert comma is not None
        at, more = comma.end(), bool(comma[1])
    if len(found) != len(_FORMS) or _END.fullmatch(text, at) is None:
        raise damaged(file.path, f"{where} is not the three keys {', '.join(_FORMS)}: understood up to byte {at}")
    dtype, big = _dtype(found["descr"][2].decode("latin-1"), where, file)
    sizes = found["shape"][1]
    if _SIZES.fullmatch(sizes) is None:
        raise damaged(file.path, f"{where} has `({shown(sizes.decode())})` for its shape, no tuple of sizes")
    shape = check_shape([int(size) for size in sizes.split(b",") if size.strip()], file.size, file.path)
    return _Head(dtype, big, found["fortran_order"][0] == b"True", shape, start)


def _no_value(key: str, text: bytes, where: str, file: Held) -> WeightsError:
    if key == "descr" and text[:1] in (b"[", b"(", b"{"):
        return hostile(file.path, f"{where} describes records of fields, not numbers", hint=_SAVE)
    return damaged(file.path, f"{where} has for `{key}` what cannot stand there: `{shown(text.decode('latin-1'))}`")


def _dtype(text: str, where: str, file: Held) -> tuple[str, bool]:
    """Our word for NumPy's, and whether the elements are big-endian."""
    order, kind = text[:1], text[1:]
    word = _WORDS.get(kind)
    if "O" in text:
        raise hostile(file.path, f"{where} says `{shown(text)}`: objects, which are a pickle", hint=_SAVE)
    plain = order == "<" or (order == "|" and kind in ("i1", "u1", "b1", "V2")) or (order == ">" and kind != "V2")
    if word is None or not plain:
        raise damaged(file.path, f"{where} says `{shown(text)}`, which is no type that weights have", hint=_SAVE)
    return word, order == ">"


def _beginning(member: Member, length: int, file: Held) -> bytes:
    """The first `length` bytes of a member, or fewer where it is shorter."""
    length = min(length, member.size)
    if member.method == zipfile.ZIP_STORED:
        return bytes(file.read(member.start, length))
    inflate = zlib.decompressobj(-15)
    try:
        # Deflated text is at most a few bytes larger than itself, and a header is all text.
        return inflate.decompress(file.read(member.start, min(member.packed, length + 1024)), length)
    except zlib.error as error:
        raise _not_deflate(member, file) from error


def _array(member: Member, head: _Head, file: Held) -> Stored:
    if member.method == zipfile.ZIP_STORED:
        data = stored_bytes(file, member)
    else:
        data = memoryview(_inflated(member, file)).toreadonly()
    data = data[head.start :]
    if head.dtype == "BOOL" and not bools_are_bits(data):
        raise damaged(file.path, f"`{shown(member.name)}` is of bools and holds bytes other than 0 and 1")
    if head.big or (head.fortran and len(head.shape) > 1):
        data = _in_our_order(data, head)
    return Stored(head.dtype, head.shape, data)


def _in_our_order(data: memoryview, head: _Head) -> memoryview:
    """The elements little-endian and in C order: the same bits, moved."""
    code = DTYPES[head.dtype][1]
    array = np.frombuffer(data, code.replace("<", ">") if head.big else code)
    turned = np.empty(head.shape, code)
    turned[...] = array.reshape(head.shape, order="F" if head.fortran else "C")
    return turned.reshape(-1).view(np.uint8).data.toreadonly()


def _inflated(member: Member, file: Held) -> bytearray:
    """The bytes of a deflated member: exactly as many as the directory says, from exactly the bytes it names."""
    found = room(member.size, file.path)
    inflate, done, crc = zlib.decompressobj(-15), 0, 0
    try:
        for at in range(0, member.packed, disk.CHUNK):
            waiting: bytes | memoryview = file.read(member.start + at, min(disk.CHUNK, member.packed - at))
            while waiting and not inflate.eof and done <= member.size:
                piece = inflate.decompress(waiting, min(disk.CHUNK, member.size - done + 1))
                waiting = inflate.unconsumed_tail
                crc = zlib.crc32(piece, crc)
                found[done : done + len(piece)] = piece
                done += len(piece)
            if waiting or inflate.unused_data:
                raise damaged(file.path, f"`{shown(member.name)}` goes on after its end")
    except zlib.error as error:
        raise _not_deflate(member, file) from error
    if not inflate.eof or done != member.size:
        raise damaged(file.path, f"`{shown(member.name)}` becomes {done} bytes, not {member.size}")
    if crc != member.crc:
        raise damaged(file.path, f"`{shown(member.name)}` has CRC {crc:08x}, not {member.crc:08x}")
    return found


def _not_deflate(member: Member, file: Held) -> WeightsError:
    return damaged(file.path, f"the compressed bytes of `{shown(member.name)}` are broken")


def write(path: Path, tensors: Tensors) -> None:
    """Write a file whole or not at all, its members stored and in the order of the dict; the same tensors always give
    the same bytes, and each array those of `numpy.save`.

    UsageError V007 for BF16, which `numpy.load` cannot open as numbers; SystemFault V701 when the disk refuses.
    """
    where = "the tensors to write"
    check_names(tensors, where)
    check_names([name + ".npy" for name in tensors], where)
    for name, tensor in tensors.items():
        if name.removesuffix(".npy") != name and name.removesuffix(".npy") in tensors:
            raise hostile(where, f"the names `{shown(name)}` and `{shown(name.removesuffix('.npy'))}` collide in npz")
        if tensor.dtype == "BF16":
            raise UsageError(
                "V007",
                f"`{shown(name)}` is BF16, a type that NumPy lacks",
                hint="write safetensors, or convert it to F32 first: Stored.of(tensor.array())",
            )

    def fill(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, tensor in tensors.items():
                head, info = _header(tensor), zipfile.ZipInfo(name + ".npy")
                info.file_size = len(head) + tensor.nbytes
                with archive.open(info, "w") as member:
                    member.write(head)
                    member.write(tensor.data)

    disk.write_file(path, fill)


def _header(tensor: Stored) -> bytes:
    """As `numpy.save` writes it, with its room for one axis to grow, so that the elements begin at a multiple of 64."""
    text = f"{{'descr': '{DTYPES[tensor.dtype][1]}', 'fortran_order': False, 'shape': {tensor.shape}, }}"
    room = 21 - len(str(tensor.shape[0])) if tensor.shape else 0
    text += " " * room
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return _MAGIC + b"\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin-1")


__all__ = ["parse", "read", "write"]
