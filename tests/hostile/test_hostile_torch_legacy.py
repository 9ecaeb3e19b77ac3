"""Hostile files of torch.save before torch 1.6: each item is a typed refusal, under watch; nothing in them runs."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.hostile.test_hostile_torch_zip import NAMESPACE, RUN, SYSTEM
from tests.hostile.test_hostile_torch_zip import _Reduces as Reduces
from tests.hostile.torch_files import FLOATS, document, name, tensor, value
from vitrail.errors import VitrailError
from vitrail.formats import read_tensors, sniff

MAGIC = 0x1950A86A20F9469CFC6C
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def storage(
    kind: str = "FloatStorage", key: object = "0", device: object = "cpu", count: object = 4, view: object = None
) -> bytes:
    parts = value(key) + value(device) + value(count) + value(view)
    return b"(" + value("storage") + name("torch", kind) + parts + b"tQ"


PICKLE = document(("w", tensor(storage())))


def legacy(
    data: bytes = PICKLE,
    storages: dict[str, bytes] | None = None,
    *,
    magic: object = MAGIC,
    version: object = 1001,
    machine: object = MACHINE,
    keys: bytes | None = None,
    counts: dict[str, int] | None = None,
) -> bytes:
    """The bytes of a file; keys: the pickle of the list of storages, counts: what is said before each."""
    storages = {"0": FLOATS} if storages is None else storages
    head = b"".join(pickle.dumps(part, 2) for part in (magic, version, machine))
    listed = pickle.dumps(sorted(storages), 2) if keys is None else keys
    counts = counts or {}
    body = [struct.pack("<q", counts.get(key, len(storages[key]) // 4)) + storages[key] for key in sorted(storages)]
    return head + data + listed + b"".join(body)


def doc(item: bytes) -> bytes:
    return legacy(document(("w", tensor(storage())), ("x", item)))


def one(store: bytes, *arguments: object, storages: dict[str, bytes] | None = None) -> bytes:
    return legacy(document(("w", tensor(store, *arguments))), storages)  # type: ignore[arg-type]


GOOD = legacy()
TWO = {"0": FLOATS, "1": FLOATS}

ITEMS: dict[str, bytes] = {
    # code, wherever a pickle stands
    "os.system in the object": doc(SYSTEM + value((RUN,)) + b"R"),
    "os.system by INST": doc(b"(" + value(RUN) + b"ios\nsystem\n"),
    "os.system by NEWOBJ": doc(SYSTEM + value((RUN,)) + b"\x81"),
    "os.system as the object": legacy(pickle.dumps(Reduces(os.system, (RUN,)), 2)),
    "os.system as the machine": legacy(machine=Reduces(os.system, (RUN,))),
    "os.system as the version": legacy(version=Reduces(os.system, (RUN,))),
    "os.system in the list of storages": legacy(keys=pickle.dumps(Reduces(os.system, (RUN,)), 2)),
    "a namespace in the list of storages": legacy(keys=b"\x80\x02" + NAMESPACE + b")\x81."),
    "a module with its source": doc(
        b"(" + value("module") + name("torch.nn.modules.linear", "Linear") + value("x.py") + value("import os") + b"tQ"
    ),
    "a module by name": doc(b"(" + value("module") + value("x") + value("x.py") + value("import os") + b"tQ"),
    "a module's class": doc(name("torch.nn.modules.linear", "Linear") + b")\x81" + value({"a": 1}) + b"b"),
    "EXT1": doc(b"\x82\x01"),
    "a storage left in the tree": doc(storage()),
    "SETITEM on a tensor": doc(tensor(storage()) + value(0) + value(2) + b"s"),
    "100,000 nested lists": doc(b"]" * 100_000 + b"a" * 99_999),
    # the head
    "version 1000": legacy(version=1000),
    "version a text": legacy(version="1001"),
    "big-endian": legacy(machine={**MACHINE, "little_endian": False}),
    "no word on the byte order": legacy(machine={}),
    "machine a list": legacy(machine=[1]),
    "a machine of 5 kB": legacy(machine={**MACHINE, "x": "y" * 5000}),
    "the magic number twice": pickle.dumps(MAGIC, 2) + GOOD,
    "only the magic number": pickle.dumps(MAGIC, 2),
    "only the head": legacy()[: len(GOOD) - len(PICKLE) - 40],
    # storages
    "2^40 elements declared": one(storage(count=1 << 40), 0, (1 << 40,)),
    "2^40 elements declared twice": legacy(
        document(("w", tensor(storage(count=1 << 40), size=(1 << 40,)))), counts={"0": 1 << 40}
    ),
    "2^62 elements": legacy(document(("w", tensor(storage(count=1 << 62)))), counts={"0": 1 << 62}),
    "count negative": legacy(document(("w", tensor(storage(count=-1)))), counts={"0": -1}),
    "count smaller than declared": legacy(counts={"0": 3}),
    "count larger than declared": legacy(counts={"0": 5}),
    "count a text": one(storage(count="4")),
    "storage too short": legacy(storages={"0": FLOATS[:12]}, counts={"0": 4}),
    "storage missing": legacy(storages={}),
    "storage of another key": legacy(storages={"1": FLOATS}),
    "storage used by nothing": legacy(storages=TWO),
    "storage of two types": legacy(
        document(("w", tensor(storage())), ("v", tensor(storage("IntStorage")))),
    ),
    "storage of two counts": legacy(document(("w", tensor(storage())), ("v", tensor(storage(count=3), size=(3,))))),
    "storage listed twice": legacy(keys=pickle.dumps(["0", "0"], 2)) + struct.pack("<q", 4) + FLOATS,
    "list of storages a dict": legacy(keys=pickle.dumps({"0": 1}, 2)),
    "list of storages of numbers": legacy(keys=pickle.dumps([0], 2)),
    "list of storages absent": legacy(keys=b""),
    "storage key a number": one(storage(key=0)),
    "storage of a quantised type": one(storage("QInt8Storage")),
    "storage of complex numbers": one(storage("ComplexFloatStorage", count=2)),
    "storage type from another module": GOOD.replace(b"ctorch\nFloatStorage", b"cevil\nFloatStorage"),
    "a view of a storage": one(storage(view=("1", 0, 4))),
    "reference that is no storage": doc(value(("module", "a")) + b"Q"),
    "device a number": one(storage(device=0)),
    # tensors
    "size beyond the storage": one(storage(), 0, (5,)),
    "stride beyond the storage": one(storage(), 0, (2, 2), (3, 1)),
    "stride negative": one(storage(), 3, (4,), (-1,)),
    "stride 0 and 2^40": one(storage(), 0, (1 << 40,), (0,)),
    "offset negative": one(storage(), -1),
    "offset beyond": one(storage(), 1),
    "rank 9": one(storage(), 0, (1,) * 9, (1,) * 9),
    "tensor with hooks": legacy(
        document(("w", tensor(storage(), hooks=name("collections", "OrderedDict") + value(([("a", 1)],)) + b"R")))
    ),
    # the end
    "a byte after the end": GOOD + b"x",
    "two files in one": GOOD + GOOD,
    "cut off": GOOD[:-1],
    "cut at half": GOOD[: len(GOOD) // 2],
    "bytes between object and list": legacy(PICKLE + b"x"),
    # not names and tensors
    "a list of tensors": legacy(b"\x80\x02](" + tensor(storage()) + b"e."),
    "tensor name ../x": legacy(document(("../x", tensor(storage())))),
    "tensor names equal but for case": legacy(document(("w", tensor(storage())), ("W", tensor(storage())))),
    # other programs
    "a raw pickle": pickle.dumps(Reduces(os.system, (RUN,)), 2),
    "a raw pickle with the magic number inside": pickle.dumps([MAGIC, Reduces(os.system, (RUN,))], 2),
    "a tar, as before torch 0.1.10": b"pickle".ljust(257, b"\0") + b"ustar" + bytes(250),
}


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where `touch canary` would write


@pytest.mark.parametrize("item", ITEMS)
def test_C02_hostile_legacy_file_is_refused(
    item: str, tmp_path: Path, refused: Callable[[Callable[[Path], object], Path], VitrailError]
) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(GOOD)
    read_tensors(path)  # whatever is imported at first use is imported now
    path.write_bytes(ITEMS[item])
    assert refused(read_tensors, path).code in ("V201", "V202", "V206")


def test_C02_list_is_broad() -> None:
    assert len(ITEMS) >= 45
    assert len(set(ITEMS.values())) == len(ITEMS)


def test_the_old_tar_form_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(ITEMS["a tar, as before torch 0.1.10"])
    with pytest.raises(VitrailError, match="tar archive") as caught:
        read_tensors(path)
    assert caught.value.code == "V206" and "save it again" in caught.value.hint


def test_good_seed_equals_torch(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(GOOD)
    assert sniff(path) == "torch_legacy"
    theirs = torch.load(path, weights_only=True)["w"].numpy()
    assert np.array_equal(read_tensors(path)[0]["w"].array(), theirs)


def test_torch_writes_what_is_made_here() -> None:
    target = io.BytesIO()
    torch.save({"w": torch.zeros(4)}, target, _use_new_zipfile_serialization=False)
    head = b"".join(pickle.dumps(part, 2) for part in (MAGIC, 1001, MACHINE))
    assert target.getvalue().startswith(head)
    assert target.getvalue().endswith(struct.pack("<q", 4) + bytes(16))
