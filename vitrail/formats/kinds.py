"""Which format a file is, by its content and never by its name; and a word for each that is not weights."""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable
from typing import Literal

from vitrail.errors import WeightsError
from vitrail.formats import zip_directory
from vitrail.formats.bounds import shown
from vitrail.formats.held import Held

Kind = Literal[
    "safetensors", "torch_zip", "torch_legacy", "torchscript", "npz", "mindspore", "hdf5", "keras_zip", "tensorflow",
    "index", "lfs_pointer", "html", "json", "text", "torch_tar", "torch_export", "zip", "compressed", "pickle", "empty",
    "unknown",
]  # fmt: skip

READ = (
    "read are safetensors, files of torch.save, TorchScript, npz, MindSpore's ckpt, Keras' h5 and keras, "
    "TensorFlow checkpoints"
)
_AGAIN = "download the file itself"
_SAVE_STATE = "save the model's state_dict() with torch.save, or its tensors as safetensors"

# What is told apart but holds no weights that are read: kind -> (what it is, the way out)
REFUSED: dict[Kind, tuple[str, str]] = {
    "lfs_pointer": (
        "a pointer of Git LFS: three lines that stand for a file which was not fetched",
        "run `git lfs pull` where it was cloned, or download the file itself",
    ),
    "html": (
        "a web page: what a server sends with an error, a login or a preview in place of a file",
        f"{_AGAIN}; look at it in a browser to see what went wrong",
    ),
    "json": ("JSON, and no index of weights", "name the weights beside it, or their folder"),
    "text": ("a text", f"{_AGAIN}; {READ}"),
    "torch_tar": (
        "a tar archive, as torch.save made before torch 0.1.10, or something packed",
        "unpack it; if torch made it, load it with torch once and save it again",
    ),
    "torch_export": ("a program of torch.export, and not weights", _SAVE_STATE),
    "zip": ("a zip archive of something else than weights", f"unpack it, and name the file inside; {READ}"),
    "compressed": ("compressed", "unpack it first (gunzip, unxz, unzstd, bunzip2)"),
    "pickle": ("a pickle that torch.save did not make; it was not run", _SAVE_STATE),
    "empty": ("empty", _AGAIN),
    "unknown": ("of no format that is known", READ),
}

_COMPRESSED = (b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"BZh")
_HTML = re.compile(rb"<(?:!doctype html|html|head|body|!--|\?xml)", re.IGNORECASE)
_TABLE_END = struct.pack("<Q", 0xDB4775248B80FB57)  # of LevelDB's tables, so of TensorFlow's `.index`
_HEAD_BYTES = 4096


def kind_of(file: Held) -> Kind:
    """The format of a held file; WeightsError V201 or V202 for a damaged or tricked zip directory."""
    from vitrail.formats import mindspore, torch_legacy  # here, because recipes are parsed without NumPy

    head = bytes(file.read(0, min(file.size, _HEAD_BYTES)))
    tests: tuple[tuple[Kind, Callable[[], bool]], ...] = (
        ("empty", lambda: not head),
        ("hdf5", lambda: head.startswith(b"\x89HDF\r\n\x1a\n")),
        ("torch_legacy", lambda: torch_legacy.is_legacy(head)),
        ("safetensors", lambda: head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= file.size - 8),
        ("tensorflow", lambda: file.size >= 48 and file.read(file.size - 8, 8) == _TABLE_END),
        ("torch_tar", lambda: head[257:262] == b"ustar"),
        ("compressed", lambda: head.startswith(_COMPRESSED)),
        ("pickle", lambda: head[:1] == b"\x80" and b"\2" <= head[1:2] <= b"\5"),
    )
    if head.startswith(zip_directory.MAGIC):
        return _zip_kind(list(zip_directory.members(file)))
    for kind, test in tests:
        if test():
            return kind
    return _text_kind(head) or ("mindspore" if mindspore.recognised(file) else "unknown")


def _zip_kind(names: list[str]) -> Kind:
    last = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last:
        return "torchscript"
    if "data.pkl" in last:
        return "torch_zip"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    if {"config.json", "model.weights.h5"} <= set(names):
        return "keras_zip"
    return "torch_export" if "archive_format" in last else "zip"


def _text_kind(head: bytes) -> Kind | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "lfs_pointer"
    if _HTML.match(start):
        return "html"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last letter may be cut
    except UnicodeDecodeError:
        return None
    if not text.translate(_LINE_ENDS).isprintable():
        return None
    if start.startswith((b"{", b"[")):
        return "index" if b'"weight_map"' in head else "json"
    return "text"


_LINE_ENDS = {ord(c): " " for c in "\t\n\r\f"}


def refusal(kind: Kind, file: Held) -> WeightsError:
    """WeightsError V206 for a file of a kind that is not read."""
    what, hint = REFUSED[kind]
    evidence = [f"{file.size} bytes"]
    if kind == "zip":
        evidence += [shown(name) for name in list(zip_directory.members(file))[:5]]
    if re.search(r"\.data-[0-9]{5}-of-[0-9]{5}$", file.path.name):
        hint = "of a TensorFlow checkpoint, name the `.index` file or the part of the name before it"
    return WeightsError("V206", f"`{file.path}` is {what}", evidence=evidence, hint=hint)
