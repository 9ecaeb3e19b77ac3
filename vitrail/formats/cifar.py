"""CIFAR-10 and CIFAR-100 as published: binary records, or Python 2 pickles that are read and never executed.

A record is the label (CIFAR-10: 1 byte; CIFAR-100: coarse and fine label) and 3,072 bytes: the red, green and blue
planes of 32 x 32 pixels.  Source: Krizhevsky 2009, www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitrail import disk
from vitrail.errors import DataError, WeightsError
from vitrail.formats import pickled_numpy
from vitrail.formats.pickles import Rules
from vitrail.formats.pickles import read as read_pickle

PIXELS = 3 * 32 * 32
FILE_BYTES = 256 << 20
NAMES_BYTES = 1 << 20


class _Kind(NamedTuple):
    title: str
    labels: tuple[int, ...]  # how many classes each label byte counts; the last one is ours

    @property
    def record(self) -> int:
        return len(self.labels) + PIXELS


_BUILDERS = pickled_numpy.builders(lambda array: array)
_KINDS = (_Kind("CIFAR-10", (10,)), _Kind("CIFAR-100", (20, 100)))
_HINT = "unpack the archive again; an official batch has 10,000 pictures (the training file of CIFAR-100 50,000)"


def read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 (N, 32, 32, 3), and labels, int64 (N,); for CIFAR-100 the fine labels.

    CIFAR-10 or CIFAR-100 is told by the record length.  DataError V404 with expected and found size when the file is
    no whole number of records, or with the record whose label is out of range; SystemFault V702 when not readable.
    """
    data = np.frombuffer(disk.read_file(path, limit=FILE_BYTES), np.uint8)
    fitting = [kind for kind in _KINDS if data.size and data.size % kind.record == 0]
    if not fitting:
        raise _no_whole_records(path, data.size)
    faults = []
    for kind in fitting:
        records = data.reshape(-1, kind.record)
        fault = _label_fault(path, records, kind)
        if fault is None:
            planes = records[:, len(kind.labels) :]
            return _pictures(planes), records[:, len(kind.labels) - 1].astype(np.int64)
        faults.append(fault)
    raise faults[0]


def _no_whole_records(path: Path, size: int) -> DataError:
    near = min(_KINDS, key=lambda kind: abs(size - max(1, round(size / kind.record)) * kind.record))
    count = max(1, round(size / near.record))
    return DataError(
        "V404",
        f"`{path}` is no whole number of CIFAR records: {size} bytes",
        evidence=[
            f"expected {count * near.record} bytes ({count} records of {near.record}, {near.title})",
            f"found    {size} bytes",
        ],
        hint=_HINT,
    )


def _label_fault(path: Path, records: np.ndarray, kind: _Kind) -> DataError | None:
    for column, classes in enumerate(kind.labels):
        wrong = np.flatnonzero(records[:, column] >= classes)
        if wrong.size:
            first = int(wrong[0])
            return DataError(
                "V404",
                f"`{path}`: record {first} has label {records[first, column]}, expected 0 to {classes - 1}",
                evidence=[f"read as {kind.title}; {wrong.size} of {len(records)} records have such a label"],
                hint=_HINT,
            )
    return None


def _pictures(planes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def read_pickled(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """As `read_binary`, from a file of the Python version: a dict with `data` and `labels` or `fine_labels`.

    DataError V404 when the file is no such dict, or names anything but numbers, texts and uint8 arrays: then nothing
    of it was executed.
    """
    batch = _pickled(path, FILE_BYTES)
    data, title = batch.get("data"), "labels" if "labels" in batch else "fine_labels"
    labels = batch.get(title)
    classes = 10 if title == "labels" else 100
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        found = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise _wrong(path, "`data` is no array of pictures", f"uint8 (N, {PIXELS})", found)
    if not isinstance(labels, list) or len(labels) != len(data) or not labels:
        found = f"{len(labels)} labels" if isinstance(labels, list) else type(labels).__name__
        raise _wrong(path, f"`{title}` does not fit the pictures", f"a list of {len(data)} labels (at least 1)", found)
    for index, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < classes:
            raise _wrong(path, f"label {index} is out of range", f"0 to {classes - 1}", _short(label))
    return _pictures(data), np.array(labels, np.int64)


def read_names(path: Path) -> list[str]:
    """The class names, in the order of the labels: `batches.meta`, `meta` (the fine ones), or a text file, one a line.

    DataError V404 when there are none, or a name is empty, doubled or not printable.
    """
    if path.suffix == ".txt":
        try:
            names: list[object] = [*disk.read_file(path, limit=NAMES_BYTES).decode().rstrip().splitlines()]
        except UnicodeDecodeError as error:
            raise _wrong(path, "the class names are not readable", "UTF-8 text", str(error)) from error
    else:
        meta = _pickled(path, NAMES_BYTES)
        listed = meta.get("fine_label_names", meta.get("label_names"))
        names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in _as_list(listed)]
    good = [name for name in names if isinstance(name, str) and name.strip() and name.isprintable()]
    if not good or len(good) != len(names) or len(set(good)) != len(good):
        found = f"{len(names)} names, {len(set(good))} of them good and different"
        raise _wrong(path, "the class names are not usable", "one printable name per class, each once", found)
    return good


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _pickled(path: Path, limit: int) -> dict[str, object]:
    """The dict of a pickled file, its keys as text."""
    rules = Rules(_BUILDERS, leaves=(np.ndarray,), limit=limit)
    try:
        value = read_pickle(disk.read_file(path, limit=limit), path, rules)
    except WeightsError as error:
        raise DataError("V404", error.what, hint=f"nothing of it was executed; {_HINT}") from error
    if not isinstance(value, dict):
        raise _wrong(path, "holds no CIFAR batch", "a dict", type(value).__name__)
    texts = {pickled_numpy.word(key): item for key, item in value.items() if isinstance(key, str | bytes)}
    if len(texts) != len(value):
        raise _wrong(path, "holds no CIFAR batch", "a dict with a text for each key, each once", f"{len(value)} keys")
    return texts


def _short(value: object) -> str:
    return str(value)[:40] if isinstance(value, int | float | str) else type(value).__name__


def _wrong(path: Path, what: str, expected: str, found: str) -> DataError:
    return DataError("V404", f"`{path}`: {what}", evidence=[f"expected {expected}", f"found    {found}"], hint=_HINT)
