"""Result files against labels: top-1, and top-5 where the package had it, in the packages' words."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.disk import read_file
from vitrail.errors import DataError, NumbersBroke, read_fault
from vitrail.evaluation import metrics
from vitrail.evaluation.intervals import wilson
from vitrail.formats import json
from vitrail.offline.layout import (
    LABEL_FILE,
    LABELS,
    LIMIT,
    Dataset,
    Packed,
    read_packed,
    refuse_doubled,
    result_name,
    shortened,
)

LONGEST = 4 << 20  # bytes of one result: a million classes
AT_ONCE = 1024  # results compared together


@dataclass(frozen=True)
class Scored:
    """How many of all pictures were answered right; top5: those whose label is among the five best."""

    dataset: Dataset
    pictures: int
    correct: int
    top5: int

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true top-1 lies with 95 % confidence (Wilson)."""
        return wilson(self.correct, self.pictures)

    def lines(self) -> list[str]:
        """What the package printed into `acc.log`.

        >>> Scored("imagenet2012", 50000, 40112, 47464).lines()
        ['Top1 acc:  0.80224', 'Top5 acc:  0.94928']
        """
        if self.dataset == "imagenet2012":
            return [f"Top1 acc:  {self.correct / self.pictures}", f"Top5 acc:  {self.top5 / self.pictures}"]
        share = 100.0 * self.correct / self.pictures
        return [f"after allreduce eval: top1_correct={self.correct}, tot={self.pictures}, acc={share:.2f}%"]


@dataclass(frozen=True)
class Labels:
    """The label of each result, by the name of the result's file."""

    place: Path
    dataset: Dataset
    of: dict[str, int]
    packed: Packed | None


def score(results: Path, labels: Path) -> Scored:
    """The files in `results`, one an input, each raw float32 logits, against what `labels` names:
    `imagenet_label.json`, a folder of int32 files, or the packed folder that holds either.

    DataError V404 lists results that are missing, that no label knows, or of another length; NumbersBroke V811 names
    those that hold NaN or Inf.
    """
    known = read_labels(labels)
    found = _sizes(results)
    if not found:
        raise DataError("V401", f"no results in `{results}`", hint="run `vitrail offline infer`, or the C++ program")
    classes = _classes(found, known, results)
    correct = top5 = 0
    broken: list[str] = []
    names = sorted(known.of)
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        logits = np.stack([_read(results / name, classes) for name in part]).astype(np.float64)
        finite = np.atleast_1d(np.isfinite(logits).all(axis=1))
        broken += [name for name, whole in zip(part, finite.tolist(), strict=True) if not whole]
        ranks = metrics.ranks(logits[finite], np.array([known.of[name] for name in part], np.int64)[finite])
        correct += int((ranks == 0).sum())
        top5 += int((ranks < 5).sum())
    if broken:
        raise NumbersBroke(
            "V811",
            f"{len(broken):,} of {len(names):,} results in `{results}` hold NaN or Inf",
            evidence=shortened(broken, "broken"),
            hint="check these inputs, then the weights and the precision",
        )
    return Scored(known.dataset, len(names), correct, top5)


def read_labels(place: Path) -> Labels:
    """The labels at a place. DataError V401 where there are none, V404 for those that do not stand."""
    if place.is_dir() and (place / LABEL_FILE).is_file():
        place = place / LABEL_FILE
    elif place.is_dir() and (place / LABELS).is_dir():
        place = place / LABELS
    packed = read_packed(place.parent)
    if place.is_dir():
        return Labels(place, "cifar10", _label_folder(place), packed)
    return Labels(place, "imagenet2012", _label_table(place), packed)


def _label_folder(folder: Path) -> dict[str, int]:
    sizes = _sizes(folder)
    if not sizes:
        raise DataError("V401", f"no labels in `{folder}`", hint="name the folder that `vitrail offline pack` made")
    wrong = [f"{name}: {size:,} bytes" for name, size in sizes.items() if size != 4]
    if wrong:
        raise DataError(
            "V404",
            f"{len(wrong):,} files in `{folder}` are no labels: one has 4 bytes, an int32",
            evidence=wrong[:5],
            hint="pack the pictures again, and keep other files out of the folder",
        )
    refuse_doubled(sizes, str(folder))
    return {
        result_name(name): int(np.frombuffer(read_file(folder / name, limit=4, follow=False), "<i4")[0])
        for name in sizes
    }


def _label_table(path: Path) -> dict[str, int]:
    try:
        values = json.loads(read_file(path, limit=LIMIT), limit=LIMIT)
        if not isinstance(values, dict) or not values or not all(type(label) is int for label in values.values()):
            raise ValueError("it must hold {file name: label}")
    except ValueError as error:
        raise DataError("V404", f"`{path}` holds no labels: {error}", hint="pack the pictures again") from error
    refuse_doubled(values, str(path))
    return {result_name(name): label for name, label in values.items()}


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file in a folder that may hold nothing else. DataError V404 for a folder, a link or a device."""
    found: dict[str, int] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    raise DataError("V404", f"`{entry.path}` is no regular file", hint="keep it out of the folder")
                found[entry.name] = status.st_size
    except OSError as error:
        raise read_fault(error, folder) from error
    return found


def _classes(found: dict[str, int], known: Labels, results: Path) -> int:
    """How many logits each result has. DataError V404 with every problem of the files together."""
    expected = len(known.packed.classes) if known.packed else max(found.values()) // 4
    missing = sorted(set(known.of) - set(found))
    extra = sorted(set(found) - set(known.of))
    wrong = sorted(f"{name}: {size:,} bytes" for name, size in found.items() if size != 4 * expected)
    beyond = sorted(f"{name}: {label}" for name, label in known.of.items() if not 0 <= label < expected)
    problems = [
        *shortened(missing, "missing"), *shortened(extra, "no label knows"),
        *shortened(wrong, f"not {4 * expected:,} bytes"), *shortened(beyond, f"label outside 0 to {expected - 1}"),
    ]  # fmt: skip
    if known.packed and known.packed.pictures != len(known.of):
        problems.append(f"{len(known.of):,} labels, {known.packed.pictures:,} were packed")
    if problems or not 0 < 4 * expected <= LONGEST:
        raise DataError(
            "V404",
            f"`{results}` does not answer `{known.place}`: {len(found):,} results, {len(known.of):,} labels",
            evidence=problems,
            hint="run the inference again, whole, over the pictures of these labels",
        )
    return expected


def _read(path: Path, classes: int) -> NDArray[np.float32]:
    data = read_file(path, limit=4 * classes, follow=False)
    if len(data) != 4 * classes:
        raise DataError("V404", f"`{path}` changed while it was scored", hint="score it again once it is whole")
    return np.frombuffer(data, "<f4")
