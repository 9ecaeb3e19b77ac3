"""CIFAR-10 and CIFAR-100 as published: binary batches or Python 2 pickles, which are read without running them.

Understood roots: the folder with the batches (`cifar-10-batches-bin`, `cifar-10-batches-py`, `cifar-100-binary`,
`cifar-100-python`, `cifar-10-verify-bin`), or its parent. Test files are held out and never trained on, wherever they
lie. Source: Krizhevsky 2009, www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.data.configs import Data
from vitrail.data.sources.found import Found
from vitrail.errors import DataError
from vitrail.formats import cifar

# layout -> (files to train on, files held out, file with the class names)
LAYOUTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "cifar-10 binary":  (tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",), ("batches.meta.txt",)),
    "cifar-10 python":  (tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",), ("batches.meta",)),
    "cifar-100 binary": (("train.bin",), ("test.bin",), ("fine_label_names.txt",)),
    "cifar-100 python": (("train",), ("test",), ("meta",)),
}  # fmt: skip
FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar-100-binary", "cifar-100-python", "cifar-10-verify-bin")

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def is_here(root: Path) -> bool:
    """Whether a CIFAR layout lies in `root` or in a known folder below it."""
    return any(_layout(place) for place in _places(root))


def _places(root: Path) -> list[Path]:
    return [root, *(root / name for name in FOLDERS)]


def _layout(place: Path) -> str | None:
    for name, (train, test, _) in LAYOUTS.items():
        files = [place / file for file in (*train, *test)]
        if any(file.is_file() and _is_cifar(file, name) for file in files):
            return name
    return None


def _is_cifar(file: Path, layout: str) -> bool:
    # `train` and `test` are also what a folder of pictures may be called; only files count, and pickles start with 0x80
    if layout.endswith("python"):
        with file.open("rb") as stream:
            return stream.read(1) == b"\x80"
    return True


def find(data: Data) -> Found:
    """All pictures below `data.root`; `data.val` is another place for the held-out ones."""
    root, val = Path(data.root or "."), Path(data.val) if data.val else None
    layouts = {place: layout for place in _places(root) if (layout := _layout(place))}
    if not layouts:
        raise DataError("V402", f"no CIFAR files in `{root}`", hint=f"expected one of {', '.join(FOLDERS[:4])}")
    kinds = {layout.split()[0] for layout in layouts.values()}
    if len(kinds) > 1:
        raise DataError("V402", f"`{root}` holds CIFAR-10 and CIFAR-100", hint="give the folder of one of them")
    training = _first_with(layouts, part=0)
    held_out = _first_with({p: la for p in _places(val) if (la := _layout(p))} if val else layouts, part=1)
    if val is not None and not held_out:
        raise DataError("V402", f"no CIFAR test files in `{val}`", hint="check data.val")
    if not training and not held_out:
        raise DataError("V402", f"no CIFAR batches in `{val or root}`", hint="check data.val")
    layout = next(iter(layouts.values()))
    classes = _names(next(iter(layouts)), layout)
    parts = [_read(file) for file in (*training, *held_out)]
    for file, (_, labels) in zip((*training, *held_out), parts, strict=True):
        if labels.size and int(labels.max()) >= len(classes):
            raise DataError("V404", f"`{file}` holds label {int(labels.max())}, there are {len(classes)} classes")
    _refuse_doubled([*training, *held_out], parts)
    _official_size(layout, [*training, *held_out], [len(part[1]) for part in parts])
    pixels = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    held = np.zeros(len(labels), bool)
    first_held = sum(len(part[1]) for part in parts[: len(training)])
    held[first_held:] = True
    only = held.all() or not held.any()
    return Found(
        place=str(root),
        classes=classes,
        labels=labels,
        held_out=None if only and not held.any() else held,
        picture=lambda index: pixels[index],
        title=lambda index: f"train-{index:05d}" if index < first_held else f"test-{index - first_held:05d}",
        memory=pixels,
        notes=(f"{layout}: {len(training)} training files, {len(held_out)} test files", *_missing(training, layout)),
        own_order=True,
    )


def _missing(training: list[Path], layout: str) -> tuple[str, ...]:
    wanted = LAYOUTS[layout][0]
    absent = [name for name in wanted if name not in {file.name for file in training}] if training else []
    return (f"missing: {', '.join(absent)}: {len(training)} of {len(wanted)} training files",) if absent else ()


def _refuse_doubled(files: list[Path], parts: list[tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> None:
    """A file that is another one's copy: a test batch under the name of a training batch would be trained on."""
    seen: dict[str, Path] = {}
    for file, (pixels, labels) in zip(files, parts, strict=True):
        digest = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
        if (other := seen.setdefault(digest, file)) != file:
            raise DataError(
                "V404", f"`{file}` holds the same pictures as `{other}`", hint="unpack the archive again, both files"
            )


def _official_size(layout: str, files: list[Path], counts: list[int]) -> None:
    """A file may be cut down to fewer pictures, but more than the published file has cannot be one of its kind."""
    for file, count in zip(files, counts, strict=True):
        official = 50_000 if layout.startswith("cifar-100") and file.stem == "train" else 10_000
        if count > official:
            raise DataError(
                "V404",
                f"`{file}` holds {count:,} pictures, the published file {official:,}",
                hint="fetch it again, or check that it is what its name says",
            )


def _first_with(layouts: dict[Path, str], *, part: int) -> list[Path]:
    """The training (part 0) or test (part 1) files of the first place that has any."""
    for place, layout in layouts.items():
        files = [place / name for name in LAYOUTS[layout][part] if (place / name).is_file()]
        if files:
            return files
    return []


def _read(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return cifar.read_binary(file) if file.suffix == ".bin" else cifar.read_pickled(file)


def _names(place: Path, layout: str) -> tuple[str, ...]:
    for candidate in (place / LAYOUTS[layout][2][0], *(p / LAYOUTS[layout][2][0] for p in _places(place.parent))):
        if candidate.is_file():
            return tuple(cifar.read_names(candidate))
    return CIFAR10_CLASSES if layout.startswith("cifar-10 ") else tuple(f"class_{i:02d}" for i in range(100))
