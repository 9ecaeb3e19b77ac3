"""One folder a class: `photos/cat/1.jpg`, alone or below `train` and one of `val`, `valid`, `validation`, `test`.

Class order is by the bytes of the names. Hidden entries are passed over, files without a picture's ending are counted
and passed over. Links are followed inside the root and refused where they lead out of it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vitrail.data.configs import Data
from vitrail.data.sources.found import Found
from vitrail.errors import DataError, printable

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
TRAIN = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "test")  # the first that is there; `test` only where no other is


def find(data: Data) -> Found:
    """All pictures below `data.root`; `data.val` is another place for the held-out ones. DataError V401 to V405."""
    root, val = Path(data.root or "."), Path(data.val) if data.val else None
    if not root.is_dir():
        raise DataError("V402", f"`{root}` is no folder", hint="give a folder with one folder of pictures per class")
    if val is not None and not val.is_dir():
        raise DataError("V402", f"data.val `{val}` is no folder", hint="give a folder with the same class folders")
    children = sorted((e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith(".")), key=os.fsencode)
    train_root, held_root = _split_folders(root, children, val)
    notes = []
    if train_root is not None and held_root is not None:
        notes.append(f"`{train_root.name}` to train on, `{held_root.name}` held out")
        unused = [printable(name) for name in children if root / name not in (train_root, held_root)]
        notes += [f"left alone: `{'`, `'.join(unused)}`"] if unused else []
        val = held_root
    training = _Listing(train_root or root, root)
    classes = training.classes()
    if val is None:
        paths, labels, held = training.paths, training.labels, None
    else:
        held_listing = _Listing(val, val if train_root is None or root not in val.parents else root)
        _same_classes(classes, held_listing.classes(), train_root or root, val)
        paths = training.paths + held_listing.paths
        labels = training.labels + held_listing.labels
        held = np.arange(len(paths)) >= len(training.paths)
        training.ignored += held_listing.ignored
    if training.ignored:
        notes.append(f"{training.ignored} files without a picture's ending passed over")
    return Found(
        place=str(root),
        classes=classes,
        labels=np.asarray(labels, np.int64),
        held_out=held,
        sizes=np.array([_size(path) for path in paths], np.int64),
        picture=lambda index: paths[index],
        title=lambda index: os.path.relpath(paths[index], root),
        memory=None,
        notes=tuple(notes),
    )


def _split_folders(root: Path, children: list[str], val: Path | None) -> tuple[Path | None, Path | None]:
    """The folder to train on and the one held out, where `root` has such; (None, None) where its folders are classes.

    A folder called `train` that holds pictures itself is a class of that name.
    """
    train = next((root / name for name in children if name.lower() in TRAIN and _has_folders(root / name)), None)
    if train is None:
        return None, None
    by_name = {name.lower(): root / name for name in reversed(children)}
    held = val or next((by_name[name] for name in HELD_OUT if name in by_name), None)
    others = [name for name in children if root / name != train]
    if held is None and others:
        raise DataError(
            "V402",
            f"`{train}` stands beside {', '.join(f'`{printable(name)}`' for name in others[:5])}: what is held out?",
            hint=f"call it one of {', '.join(HELD_OUT)}, or name it with data.val",
        )
    return train, held


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1  # a dangling link or a file that vanished: reading it will say so


def _has_folders(place: Path) -> bool:
    return any(entry.is_dir() for entry in os.scandir(place))


class _Listing:
    """The class folders below `place` and their pictures, in byte order of the names."""

    def __init__(self, place: Path, root: Path) -> None:
        self.place = place
        self._root = root.resolve()
        self.paths: list[Path] = []
        self.labels: list[int] = []
        self.ignored = 0
        self._folders = sorted(
            (entry.name for entry in os.scandir(place) if not entry.name.startswith(".") and entry.is_dir()),
            key=os.fsencode,
        )
        for label, name in enumerate(self._folders):
            self._inside(place / name)
            before = len(self.paths)
            self._collect(place / name, label)
            if len(self.paths) == before:
                raise DataError("V401", f"no pictures in `{place / name}`", hint="fill the class folder or remove it")

    def classes(self) -> tuple[str, ...]:
        if not self._folders:
            raise DataError(
                "V401",
                f"no class folders in `{self.place}`",
                hint=f"expected one folder per class with {', '.join(ENDINGS)} files in it",
            )
        seen: dict[str, str] = {}
        for name in self._folders:
            if (other := seen.setdefault(name.casefold(), name)) != name:
                raise DataError(
                    "V405",
                    f"classes `{other}` and `{name}` in `{self.place}` differ by case alone",
                    hint="merge the two folders, or rename one",
                )
        return tuple(printable(name) for name in self._folders)

    def _inside(self, path: Path) -> None:
        if path.is_symlink() and not path.resolve().is_relative_to(self._root):
            raise DataError(
                "V402", f"`{path}` is a link that leads out of `{self._root}`", hint="copy the files in its place"
            )

    def _collect(self, folder: Path, label: int) -> None:
        for parent, folders, files in os.walk(folder):
            folders[:] = sorted((f for f in folders if not f.startswith(".")), key=os.fsencode)
            for name in sorted(files, key=os.fsencode):
                if name.startswith("."):
                    continue
                if not name.lower().endswith(ENDINGS):
                    self.ignored += 1
                    continue
                self._inside(Path(parent, name))
                self.paths.append(Path(parent, name))
                self.labels.append(label)


def _same_classes(training: tuple[str, ...], held_out: tuple[str, ...], train_place: Path, val_place: Path) -> None:
    missing = [name for name in training if name not in held_out]
    extra = [name for name in held_out if name not in training]
    if missing or extra:
        raise DataError(
            "V403",
            f"`{val_place}` has other classes than `{train_place}`",
            evidence=[
                *(f"missing in {val_place.name}: {name}" for name in missing[:5]),
                *(f"only in {val_place.name}: {name}" for name in extra[:5]),
                f"{len(missing)} missing, {len(extra)} extra of {len(training)} classes",
            ],
            hint="give every class at least one picture in both, under the same name",
        )
