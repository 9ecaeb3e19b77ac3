"""Bytes of foreign files to named tensors: which format it is by content, and one way to read them all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.errors import SystemFault, UsageError, WeightsError
from vitrail.formats import folders, kinds
from vitrail.formats.held import Held, hold
from vitrail.formats.kinds import Kind

if TYPE_CHECKING:
    from vitrail.formats.stored import Tensors


def sniff(path: Path) -> Kind:
    """The format of a weight file, by its content and never by its name.

    WeightsError V201 or V202 for a damaged or tricked zip directory; SystemFault V702 when it cannot be read.
    """
    with hold(path) as file:
        return kinds.kind_of(file)


def is_program(path: Path) -> bool:
    """Whether a file is a TorchScript program; False where it cannot be told, as the reader of weights will say."""
    try:
        return path.is_file() and sniff(path) == "torchscript"
    except (WeightsError, SystemFault):
        return False


def read_tensors(
    path: Path, sha256: str | None = None, *, key: bytes | None = None
) -> tuple[Tensors, dict[str, str], list[str]]:
    """All named tensors of a weight file, its text metadata, and notes on what was passed over.

    path: a file; an index of several (`*.index.json`); a folder with `model.safetensors`, `pytorch_model.bin` or their
    index; a TensorFlow checkpoint by its folder, its `.index` or the name before that.  sha256: of a single file.
    key: for an encrypted checkpoint of MindSpore.

    Each file is opened once; with sha256 its bytes are hashed before anything is parsed.  WeightsError V201 damaged or
    another hash, V202 hostile or beyond a limit, V206 a format that is not read; UsageError V007 for a hash of what is
    several files, or a key that nothing needs; SystemFault V702 not readable.
    """
    place, notes = folders.file_of(path)
    if sha256 is not None and place.parent == path:
        raise _no_one_hash(path)
    with hold(place, sha256=sha256) as file:
        kind = kinds.kind_of(file)
        if sha256 is not None and kind in ("index", "tensorflow"):
            raise _no_one_hash(place)
        if key is not None and kind != "mindspore":
            raise UsageError("V007", f"`{place}` is {kind}, which takes no key", hint="leave the key out")
        tensors, metadata, said = _read(file, kind, key)
    return tensors, metadata, notes + said


def _no_one_hash(path: Path) -> UsageError:
    return UsageError("V007", f"`{path}` stands for several files, which have no one SHA-256", hint="leave it out")


def _read(file: Held, kind: Kind, key: bytes | None) -> tuple[Tensors, dict[str, str], list[str]]:
    """Each reader is imported where it is used: recipes are parsed without NumPy."""
    notes: list[str] = []
    match kind:
        case "safetensors":
            from vitrail.formats import safetensors

            return (*safetensors.parse(file), [])
        case "index":
            from vitrail.formats import sharded

            return sharded.parse(file)
        case "torch_zip" | "torch_legacy":
            from vitrail.formats import state_dict

            tensors, notes = state_dict.parse(file)
        case "torchscript":
            from vitrail.formats import torch_zip

            tensors, notes = torch_zip.program(file)
        case "npz":
            from vitrail.formats import npz

            tensors = npz.parse(file)
        case "mindspore":
            from vitrail.formats import mindspore

            tensors, notes = mindspore.parse(file, key)
        case "hdf5":
            from vitrail.formats import hdf5

            tensors = hdf5.parse(file)
        case "keras_zip":
            from vitrail.formats import keras_zip

            tensors = keras_zip.parse(file)
        case "tensorflow":
            from vitrail.formats import tensorflow

            tensors, notes = tensorflow.parse(file)
        case _:
            raise kinds.refusal(kind, file)
    return tensors, {}, notes


__all__ = ["Kind", "is_program", "read_tensors", "sniff"]
