"""Hostile files of torch.save: each item is a typed refusal, under watch; nothing in them runs."""

from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.hostile.torch_files import (
    FLOATS,
    GOOD_PICKLE,
    document,
    name,
    packed,
    storage,
    tensor,
    value,
    zipped,
)
from vitrail.errors import VitrailError, WeightsError
from vitrail.formats import read_tensors, torch_zip
from vitrail.formats.held import hold

RUN = "touch canary"


class _Reduces:
    def __init__(self, *what: object) -> None:
        self.what = what

    def __reduce__(self) -> tuple[object, ...]:
        return self.what


def doc(item: bytes) -> bytes:
    return packed(document(("w", tensor()), ("x", item)))


def reduced(*what: object, protocol: int = 2) -> bytes:
    return packed(pickle.dumps({"w": _Reduces(*what)}, protocol))


def raw(body: bytes, protocol: int = 2) -> bytes:
    return packed(b"\x80" + bytes([protocol]) + body + b".")


def swapped(data: bytes, old: bytes, new: bytes, which: int = 0) -> bytes:
    at = -1
    for _ in range(which + 1):
        at = data.index(old, at + 1)
    return data[:at] + new + data[at + len(old) :]


GOOD = packed()
SYSTEM = name("os", "system")
NAMESPACE = name("argparse", "Namespace")
# Thirty lists, each holding the one before it twice.
EXPANSION = b"]q\x000" + b"".join(b"]q%ch%cah%ca0" % (i + 1, i, i) for i in range(30)) + b"h\x1e"
NARROW = b"\0\0\0\0"
END = GOOD.rindex(b"PK\x05\x06")
DIRECTORY = struct.unpack("<I", GOOD[END + 16 : END + 20])[0]

ITEMS: dict[str, bytes] = {
    # code
    "os.system by GLOBAL and REDUCE": doc(SYSTEM + value((RUN,)) + b"R"),
    "os.system by __reduce__, protocol 0": reduced(os.system, (RUN,), protocol=0),
    "os.system by __reduce__, protocol 1": reduced(os.system, (RUN,), protocol=1),
    "os.system by STACK_GLOBAL": reduced(os.system, (RUN,), protocol=4),
    "os.system, protocol 5": reduced(os.system, (RUN,), protocol=5),
    "os.system by INST": doc(b"(" + value(RUN) + b"ios\nsystem\n"),
    "os.system by OBJ": doc(b"(" + SYSTEM + value(RUN) + b"o"),
    "os.system by NEWOBJ": doc(SYSTEM + value((RUN,)) + b"\x81"),
    "os.system by NEWOBJ_EX": doc(SYSTEM + value((RUN,)) + b"}\x92"),
    "os.system named and not called": doc(SYSTEM),
    "os.system named, then dropped": doc(SYSTEM + b"0N"),
    "os.system from the memo": doc(SYSTEM + b"q\x05" + b"0h\x05" + value((RUN,)) + b"R"),
    "eval": reduced(eval, (f"__import__('os').system({RUN!r})",)),
    "exec": reduced(exec, (f"open('canary','w')",)),  # noqa: F541
    "getattr": doc(name("builtins", "getattr") + value(("a", "upper")) + b"R"),
    "dotted name": doc(name("torch", "serialization.os.system") + value((RUN,)) + b"R"),
    "dotted module": doc(name("torch.serialization.os", "system") + value((RUN,)) + b"R"),
    "torch.load": doc(name("torch", "load") + value(("x",)) + b"R"),
    "torch.hub": doc(name("torch.hub", "load") + value(("x", "y")) + b"R"),
    "a module's class": doc(name("torch.nn.modules.linear", "Linear") + b")\x81" + value({"a": 1}) + b"b"),
    "an optimizer's class": doc(name("torch.optim.adamw", "AdamW") + b")\x81" + value({"a": 1}) + b"b"),
    "numpy's random state": doc(name("numpy.random", "RandomState") + b")R"),
    "EXT1": doc(b"\x82\x01"),
    "EXT2": doc(b"\x83\x01\x01"),
    "EXT4": doc(b"\x84\x01\x01\x01\x01"),
    "PERSID": doc(b"P0\n"),
    "BUILD on a plain dict": doc(value({}) + value({"__class__": "x"}) + b"b"),
    "BUILD on a tensor": doc(tensor() + value({"a": 1}) + b"b"),
    "BUILD twice": doc(NAMESPACE + b")\x81" + value({"a": 1}) + b"b" + value({"b": 1}) + b"b"),
    "BUILD of a function": doc(NAMESPACE + value({"a": 1}) + b"b"),
    "REDUCE of a text": doc(value("os.system") + value((RUN,)) + b"R"),
    "REDUCE of a storage type": doc(name("torch", "FloatStorage") + value((4,)) + b"R"),
    "REDUCE with a list": doc(NAMESPACE + value([1]) + b"R"),
    "a builder left in the tree": doc(NAMESPACE),
    "a storage left in the tree": doc(storage()),
    "an unfilled array": doc(name("numpy.core.multiarray", "_reconstruct") + value(()) + b"R"),
    "a dtype left in the tree": doc(name("numpy", "dtype") + value(("f4",)) + b"R"),
    "SETITEM on a list": doc(value([1]) + value(0) + value(2) + b"s"),
    "SETITEMS on an int": doc(value(1) + b"(" + value(0) + value(2) + b"u"),
    "SETITEM on a tensor": doc(tensor() + value(0) + value(2) + b"s"),
    "APPEND to a dict": doc(value({}) + value(0) + b"a"),
    "APPENDS to a tensor": doc(tensor() + b"(" + value(0) + b"e"),
    "a key twice": packed(document(("w", tensor()), ("w", tensor()))),
    "a tuple as key": doc(b"}" + value((1, 2)) + value(1) + b"s"),
    "a deep tuple as key": doc(b"}" + b")" + b"\x85" * 100_000 + value(1) + b"s"),
    # other programs
    "TorchScript": packed(
        document(("w", tensor()), ("x", SYSTEM + value((RUN,)) + b"R")),
        extra=[("a/code/__torch__.py", b"x"), ("a/constants.pkl", b"x")],
    ),
    "raw pickle": pickle.dumps(_Reduces(os.system, (RUN,))),
    "tar": b"data.pkl".ljust(257, b"\0") + b"ustar" + bytes(250),
    # storages
    "2^40 elements declared": packed(document(("w", tensor(storage(count=1 << 40), size=(1 << 40,))))),
    "storage shorter than declared": packed(storages={"0": FLOATS[:12]}),
    "storage longer than declared": packed(storages={"0": FLOATS + b"x"}),
    "storage missing": packed(storages={"1": FLOATS}),
    "storage used by nothing": packed(storages={"0": FLOATS, "1": FLOATS}),
    "storage key ../../x": packed(document(("w", tensor(storage(key="../../x"))))),
    "storage key a number": packed(document(("w", tensor(storage(key=0))))),
    "storage of two types": packed(document(("w", tensor()), ("v", tensor(storage("IntStorage"))))),
    "storage count negative": packed(document(("w", tensor(storage(count=-4))))),
    "storage count a text": packed(document(("w", tensor(storage(count="4"))))),
    "storage of a quantised type": packed(document(("w", tensor(storage("QInt8Storage"))))),
    "storage of complex numbers": packed(document(("w", tensor(storage("ComplexFloatStorage", count=2))))),
    "storage type from another module": packed(GOOD_PICKLE.replace(b"ctorch\nFloatStorage", b"cevil\nFloatStorage")),
    "storage in a nested archive": packed(document(("w", tensor(storage(key="0/1"))))),
    "reference that is no storage": doc(value(("module", "a")) + b"Q"),
    "reference to a view": packed(GOOD_PICKLE.replace(b"tQ", b"(KKttQ")),
    # tensors
    "size beyond the storage": packed(document(("w", tensor(size=(5,))))),
    "stride beyond the storage": packed(document(("w", tensor(size=(2, 2), stride=(3, 1))))),
    "stride negative": packed(document(("w", tensor(offset=3, stride=(-1,))))),
    "stride 0 and 2^40": packed(document(("w", tensor(size=(1 << 40,), stride=(0,))))),
    "many expanded tensors": packed(
        document(*((f"w{i}", tensor(storage(count=1 << 16), size=(1 << 21,), stride=(0,))) for i in range(60))),
        {"0": bytes(1 << 18)},
    ),
    "stride 2^63": packed(document(("w", tensor(size=(2,), stride=(1 << 63,))))),
    "offset negative": packed(document(("w", tensor(offset=-1)))),
    "offset beyond": packed(document(("w", tensor(offset=1)))),
    "offset beyond, no elements": packed(document(("w", tensor(offset=5, size=(0,))))),
    "offset a text": packed(document(("w", tensor(offset="0")))),
    "rank 9": packed(document(("w", tensor(size=(1,) * 9, stride=(1,) * 9)))),
    "rank of size and stride differ": packed(document(("w", tensor(size=(2, 2))))),
    "size negative": packed(document(("w", tensor(size=(-4,))))),
    "size of booleans": packed(document(("w", tensor(size=(True,))))),
    "size of floats": packed(document(("w", tensor(size=(4.0,))))),
    "size nested": packed(document(("w", tensor(size=((4,),))))),
    "zero hides 2^62": packed(document(("w", tensor(size=(0, 1 << 62), stride=(1, 1))))),
    "hooks": packed(document(("w", tensor(hooks=value({"a": 1}))))),
    "10000 hooks": packed(document(("w", tensor(hooks=value({str(i): i for i in range(10_000)}))))),
    "BOOL 7": packed(document(("w", tensor(storage("BoolStorage"), size=(4,)))), {"0": b"\0\1\7\1"}),
    "untyped without a type": packed(document(("w", tensor(storage("UntypedStorage", count=16))))),
    "sparse": doc(name("torch._utils", "_rebuild_sparse_tensor") + value((1, 2)) + b"R"),
    "quantised": doc(name("torch._utils", "_rebuild_qtensor") + value((1, 2)) + b"R"),
    "nested tensor": doc(name("torch._utils", "_rebuild_nested_tensor") + value((1, 2)) + b"R"),
    "meta": doc(name("torch._utils", "_rebuild_meta_tensor_no_storage") + value((1, 2)) + b"R"),
    "device tensor from numpy": doc(name("torch._utils", "_rebuild_device_tensor_from_numpy") + value((1, 2)) + b"R"),
    "tensor subclass": doc(name("torch._tensor", "_rebuild_from_type_v2") + value((1, 2, 3, 4)) + b"R"),
    # size and depth
    "100000 nested lists": doc(b"]" * 100_000 + b"a" * 99_999),
    "200000 nested tuples": doc(b")" + b"\x85" * 200_000),
    "16 million opcodes": packed(b"\x80\x02" + b"N0" * 7_000_000 + b"N."),
    "500000 dicts": packed(b"\x80\x02(" + b"}" * 600_000 + b"l."),
    "2^30 expansion": doc(EXPANSION),
    "a list in itself": doc(b"]q\x01h\x01a"),
    "a dict in itself": doc(b"}q\x01" + value("a") + b"h\x01s"),
    "copies of one text": doc(
        value("x" * 100_000) + b"q\x01" + (b"c_codecs\nencode\nh\x01" + value("latin1") + b"\x86R") * 5000
    ),
    "pickle of 17 MiB": packed(b"\x80\x02" + b"N0" * (9 << 20) + b"N."),
    # opcodes
    "BINUNICODE of 4 GiB": raw(b"X\xff\xff\xff\xffabc"),
    "BINUNICODE8 of 2^63": raw(b"\x8d" + struct.pack("<Q", 1 << 63) + b"abc", 4),
    "BINBYTES8 of 2^64-1": raw(b"\x8e" + b"\xff" * 8 + b"abc", 4),
    "BYTEARRAY8 too long": raw(b"\x96" + struct.pack("<Q", 100) + b"abc", 5),
    "LONG4 negative": raw(b"\x8b" + struct.pack("<i", -1)),
    "LONG1 of 200 bytes": raw(b"\x8a\xc8" + b"\1" * 200),
    "INT of 10^6 digits": raw(b"I" + b"1" * 1_000_000 + b"\n"),
    "LONG of 100 digits": raw(b"L" + b"1" * 100 + b"L\n"),
    "INT with blanks": raw(b"I 1_0\n"),
    "FLOAT nonsense": raw(b"F1__e\n"),
    "STRING without quotes": raw(b"Sabc\n"),
    "UNICODE cut off": raw(b"Vab\\u12\n"),
    "not UTF-8": raw(b"X\2\0\0\0\xff\xfe"),
    "FRAME beyond the end": raw(b"\x95" + struct.pack("<Q", 1 << 40) + b"N", 4),
    "FRAME that cuts an opcode": raw(b"\x95" + struct.pack("<Q", 4) + value("abcdefgh"), 4),
    "FRAME in a frame": raw(b"\x95" + struct.pack("<Q", 12) + b"\x95" + struct.pack("<Q", 1) + b"N", 4),
    "protocol 6": raw(b"N", 6),
    "protocol again": raw(b"\x80\x02N"),
    "unknown opcode": raw(b"\xff"),
    "NEXT_BUFFER": raw(b"\x97", 5),
    "empty pickle": packed(b""),
    "no STOP": packed(b"\x80\x02N"),
    "bytes after STOP": packed(b"\x80\x02N.N."),
    "two values left": raw(b"NN"),
    "no value left": raw(b""),
    "a mark left": raw(b"(N"),
    "pop from nothing": raw(b"0N"),
    "pop past a mark": raw(b"N(a"),
    "tuple without a mark": raw(b"Nt"),
    "unknown memo": raw(b"h\x07"),
    "odd items": raw(b"}(" + value("a") + b"u"),
    # calls with wrong arguments
    "namespace with a list as state": doc(NAMESPACE + b")\x81" + value([1]) + b"b"),
    "path of numbers": doc(name("pathlib", "PosixPath") + value((1, 2)) + b"R"),
    "size of texts": doc(name("torch", "Size") + value((("a",),)) + b"R"),
    "device of a list": doc(name("torch", "device") + value(([],)) + b"R"),
    "pairs that are none": doc(name("collections", "OrderedDict") + value(([1],)) + b"R"),
    "object array": doc(name("numpy", "dtype") + value(("O8", 0, 1)) + b"R"),
    "record array": doc(name("numpy", "dtype") + value(("V8", 0, 1)) + b"R"),
    "type as code": doc(name("numpy", "dtype") + value(("f4,(2,3)i8",)) + b"R"),
    "scalar too short": doc(
        name("numpy._core.multiarray", "scalar") + name("numpy", "dtype") + value(("f8",)) + b"R" + b"C\1x\x86R"
    ),
    "array with too few bytes": doc(
        name("numpy._core.multiarray", "_reconstruct")
        + b")R(K\x01"
        + value((1 << 40,))
        + name("numpy", "dtype")
        + value(("f8",))
        + b"R\x89C\x01xtb"
    ),
    "bytes by a codec": doc(name("_codecs", "encode") + value(("abc", "rot13")) + b"R"),
    # the small members
    "version 10^9": packed(version=b"1000000000\n"),
    "version 11": packed(version=b"11\n"),
    "version 0": packed(version=b"0\n"),
    "version a text": packed(version=b"three"),
    "byte order big": packed(byteorder=b"big"),
    "byte order middle": packed(byteorder=b"middle"),
    # the zip
    "two data.pkl of one name": packed(extra=[("a/data.pkl", GOOD_PICKLE)]),
    "two data.pkl in two folders": packed(extra=[("b/data.pkl", GOOD_PICKLE)]),
    "data.pkl at the top": zipped([("data.pkl", GOOD_PICKLE)]),
    "no data.pkl": zipped([("a/version", b"3")]),
    "storage twice": packed(extra=[("a/data/0", FLOATS)]),
    "names equal but for case": packed(extra=[("a/VERSION", b"3")]),
    "foreign member": packed(extra=[("a/x.py", b"import os")]),
    "member outside": packed(extra=[("x", b"3")]),
    "member ../x": packed(extra=[("../x", b"3")]),
    "member /x": packed(extra=[("/x", b"3")]),
    "deflated": packed(method=zipfile.ZIP_DEFLATED),
    "a deflated bomb for a storage": zipped(
        [("a/data.pkl", document(("w", tensor(storage(count=1 << 20))))), ("a/data/0", bytes(1 << 22))],
        zipfile.ZIP_DEFLATED,
        only="a/data/0",
    ),
    "bzip2": packed(method=zipfile.ZIP_BZIP2),
    "bit flip in a tensor": swapped(GOOD, FLOATS, FLOATS[:-1] + b"\xff"),
    "bit flip in the pickle": swapped(GOOD, b"FloatStorage", b"FlotaStorage"),
    "CRC in one header changed": swapped(GOOD, GOOD[14:18], NARROW),
    "CRC in the directory changed": swapped(GOOD, GOOD[14:18], NARROW, 1),
    "local name differs": swapped(GOOD, b"a/data/0", b"a/data/1"),
    "directory name differs": swapped(GOOD, b"a/data/0", b"a/data/1", 1),
    "two members share their bytes": GOOD[: DIRECTORY + 42]
    + GOOD[:0]
    + GOOD[DIRECTORY + 42 :].replace(
        GOOD[GOOD.index(b"a/byteorder", DIRECTORY) - 4 : GOOD.index(b"a/byteorder", DIRECTORY)], NARROW, 1
    ),
    "encrypted": swapped(GOOD, b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
    "cut off": GOOD[:-1],
    "cut at half": GOOD[: len(GOOD) // 2],
    "bytes after the end": GOOD + b"x",
    "a comment": GOOD[:-2] + b"\x01\x00x",
    "two ends": GOOD + GOOD[END:],
    "count too small": GOOD[: END + 8] + b"\1\0\1\0" + GOOD[END + 12 :],
    "count too large": GOOD[: END + 8] + b"\xff\xff\xff\xff" + GOOD[END + 12 :],
    "directory size 4 GiB": GOOD[: END + 12] + b"\xff\xff\xff\xff" + GOOD[END + 16 :],
    "directory offset 4 GiB": GOOD[: END + 16] + b"\xff\xff\xff\xff" + GOOD[END + 20 :],
    "second disk": GOOD[: END + 4] + b"\1\0" + GOOD[END + 6 :],
    "nothing but an end": b"PK\x03\x04" + GOOD[END:],
    "zip64 locator to nowhere": GOOD[:END] + b"PK\x06\x07" + bytes(16) + GOOD[END:],
    "bytes before the start": b"PK\x03\x04x" + GOOD,
    # not names and tensors
    "a list of tensors": packed(b"\x80\x02](" + tensor() + b"e."),
    "a number": zipped([("a/data.pkl", b"\x80\x02K\x01.")]),
    "no tensors": zipped([("a/data.pkl", document(("epoch", value(3))))]),
    "tensor names equal but for case": packed(document(("w", tensor()), ("W", tensor()))),
    "tensor name ../x": packed(document(("../x", tensor()))),
    "tensor name with an escape": packed(document(("\x1b[31m", tensor()))),
}


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where `touch canary` would write


@pytest.mark.parametrize("item", ITEMS)
def test_C02_hostile_file_is_refused(
    item: str, tmp_path: Path, refused: Callable[[Callable[[Path], object], Path], VitrailError]
) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(GOOD)
    read_tensors(path)  # whatever is imported at first use is imported now
    path.write_bytes(ITEMS[item])
    assert refused(read_tensors, path).code in ("V201", "V202", "V206")


PROGRAM = [("a/constants.pkl", b"x"), ("a/code/__torch__.py", b"import os"), ("a/extra/x", b"y")]
MODULE = name("__torch__.torch.nn", "Linear") + b")\x81}"


def _as_program(path: Path) -> object:
    with hold(path) as file:
        return torch_zip.program(file)


def test_C02_a_program_is_read_as_data(tmp_path: Path) -> None:
    path = tmp_path / "x.ts"
    inner = MODULE + value("weight") + tensor() + b"s" + value("training") + b"\x89sb"
    path.write_bytes(packed(b"\x80\x02" + MODULE + value("head") + inner + b"sb.", extra=PROGRAM))
    tensors, _, _ = read_tensors(path)
    assert list(tensors) == ["head.weight"]
    listed = MODULE + value("parts") + b"](" + tensor() + tensor() + b"esb."
    path.write_bytes(packed(b"\x80\x02" + listed, extra=PROGRAM))
    assert list(read_tensors(path)[0]) == ["parts.0", "parts.1"]


def test_C07_a_long_name_referred_to_often_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.ts"
    once = MODULE + value("a" * (1 << 20)) + b"q\x09" + MODULE + value("w") + tensor() + b"sbs"
    again = b"".join(value(f"m{i}") + MODULE + b"h\x09" + tensor() + b"sbs" for i in range(500))
    path.write_bytes(packed(b"\x80\x02" + once + again + b"b.", extra=PROGRAM))
    tracemalloc.start()
    with pytest.raises(WeightsError) as caught:
        read_tensors(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.code == "V202" and peak < 64 << 20


@pytest.mark.parametrize("item", ITEMS)
def test_C02_hostile_program_is_refused(
    item: str, tmp_path: Path, refused: Callable[[Callable[[Path], object], Path], VitrailError]
) -> None:
    path = tmp_path / "x.ts"
    path.write_bytes(packed(extra=PROGRAM))
    read_tensors(path)
    path.write_bytes(ITEMS[item])
    assert refused(_as_program, path).code in ("V201", "V202", "V206")


@pytest.mark.parametrize(
    "body",
    [
        name("__torch__.a", "B") + b".",
        name("__torch__.a", "B") + value((1,)) + b"R" + value([1]) + b"b.",
        name("__torch__.os", "system") + value((RUN,)) + b"R.",
        name("torch.jit._pickle", "restore_type_tag") + value((1, 2)) + b"R.",
        name("torch.jit._pickle", "build_intlist") + value(("a",)) + b"R.",
        name("torch.jit", "load") + value(("x",)) + b"R.",
        name("__torch__x", "B") + b")\x81}b.",
        name("__torch__.a", "B") + value("NCHW") + b"R}b.",
        # one long name, referred to by few bytes each
        MODULE + value("a" * (1 << 20)) + b"q\x09" + MODULE + value("w") + tensor() + b"sbsb.",
        MODULE + value("a.b") + tensor() + b"s" + value("a") + MODULE + value("b") + tensor() + b"sbsb.",
        MODULE + value("1") + tensor() + b"s" + value(1) + tensor() + b"sb.",
        MODULE + b"N" + tensor() + b"sb.",
        name("__torch__.a", "B") + value(1.5) + b"R.",
        name("torch.jit._pickle", "build_intlist") + value("NCHW") + b"R.",
        (MODULE + value("a")) * 200 + b"N" + b"sb" * 200 + b".",
    ],
)
def test_C02_what_no_program_holds_is_refused(
    body: bytes, tmp_path: Path, refused: Callable[[Callable[[Path], object], Path], VitrailError]
) -> None:
    path = tmp_path / "x.ts"
    path.write_bytes(packed(b"\x80\x02" + body, extra=PROGRAM))
    assert refused(read_tensors, path).code in ("V201", "V202", "V206")


def test_C02_list_is_broad() -> None:
    assert len(ITEMS) >= 45
    assert len(set(ITEMS.values())) == len(ITEMS)


def test_C01_the_refusal_names_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for item, asked in (
        ("os.system by __reduce__, protocol 1", f"{os.system.__module__}.system"),
        ("os.system by INST", "os.system"),
        ("a module's class", "torch.nn.modules.linear.Linear"),
        ("eval", "eval"),
    ):
        path.write_bytes(ITEMS[item])
        with pytest.raises(WeightsError, match=asked) as caught:
            torch_zip.read(path)
        assert caught.value.code == "V202"


def test_good_seed_equals_torch(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(GOOD)
    theirs = torch.load(path, weights_only=True)["w"].numpy()
    assert np.array_equal(read_tensors(path)[0]["w"].array(), theirs)


SPLICES = [b"R", b"b", b"s", b"Q", b".", b"(", b"0", b"2", b"\x81", b"h\x00", b"q\x00", b"}", b"]", b"\xff\xff\xff\x7f",
           SYSTEM, NAMESPACE, value((RUN,)), value(1 << 40), tensor()]  # fmt: skip
SEED = document(
    ("w", tensor()),
    ("n", NAMESPACE + b")\x81" + value({"lr": 0.1}) + b"b"),
    ("s", tensor(size=(2, 2), stride=(1, 2))),
    ("e", value({"epoch": 3, "names": ["a", "b"], "t": (1, None, True)})),
)
