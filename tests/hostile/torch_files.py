"""Made files of torch.save, honest and not: opcodes put together by hand, members packed as wished."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile


def value(plain: object) -> bytes:
    """The opcodes that push a plain value (protocol 2)."""
    return pickle.dumps(plain, 2)[2:-1]


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


HOOKS = name("collections", "OrderedDict") + b")R"


def storage(kind: str = "FloatStorage", key: object = "0", device: object = "cpu", count: object = 4) -> bytes:
    return b"(" + value("storage") + name("torch", kind) + value(key) + value(device) + value(count) + b"tQ"


def tensor(
    store: bytes | None = None,
    offset: object = 0,
    size: object = (4,),
    stride: object = (1,),
    hooks: bytes = HOOKS,
) -> bytes:
    arguments = (store or storage()) + value(offset) + value(size) + value(stride) + value(False) + hooks
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def document(*pairs: tuple[object, bytes]) -> bytes:
    return b"\x80\x02}(" + b"".join(value(key) + item for key, item in pairs) + b"u."


GOOD_PICKLE = document(("w", tensor()))
FLOATS = bytes(range(16))


def packed(
    data: bytes = GOOD_PICKLE,
    storages: dict[str, bytes] | None = None,
    extra: list[tuple[str, bytes]] | None = None,
    *,
    method: int = zipfile.ZIP_STORED,
    version: bytes = b"3\n",
    byteorder: bytes = b"little",
) -> bytes:
    """The bytes of a file; extra members come last."""
    members = [("a/data.pkl", data), ("a/byteorder", byteorder)]
    members += [(f"a/data/{key}", content) for key, content in (storages or {"0": FLOATS}).items()]
    members += [("a/version", version), *(extra or [])]
    return zipped(members, method)


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED, *, only: str | None = None) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", method) as archive:
        warnings.simplefilter("ignore")  # a name twice
        for member, content in members:
            archive.writestr(zipfile.ZipInfo(member), content, method if only in (None, member) else zipfile.ZIP_STORED)
    return target.getvalue()
