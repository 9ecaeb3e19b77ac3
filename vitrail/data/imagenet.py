"""ImageNet's three archives as published, made into `train` and `val` with a folder a class.

    ILSVRC2012_img_train.tar       one tar a class inside, `n01440764.tar`
    ILSVRC2012_img_val.tar         ILSVRC2012_val_00000001.JPEG and on
    ILSVRC2012_devkit_t12.tar.gz   meta.mat (numbers and synsets, how many pictures to train on of each), and the
                                   number of each validation picture

A class's folder appears whole or not at all, so a stopped run goes on with the next one. How many pictures there must
be is what the devkit states. Source: image-net.org, ILSVRC2012 (Russakovsky et al. 2015).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vitrail import disk
from vitrail.errors import DataError
from vitrail.formats import tar
from vitrail.formats.extract import extract, extract_members
from vitrail.formats.matlab_records import read_records
from vitrail.formats.ranges import Read, as_data, ranges
from vitrail.locks import locked

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
OFFICIAL = (1_281_167, 50_000, 1_000)  # to train on, to validate, classes
_FIELDS = ("ILSVRC2012_ID", "WNID", "num_children", "num_train_images")
_DEVKIT_BYTES = 64 << 20
_FETCH = "they are published at image-net.org, for who agrees to its terms"

Progress = Callable[[int, int], object]  # (bytes so far, bytes in all)
Members = Callable[[], list[tar.Member]]


@dataclass(frozen=True)
class Devkit:
    """What the development kit states. train: synset -> its number of pictures; val: the synset of each picture."""

    train: Mapping[str, int]
    val: tuple[str, ...]


@dataclass(frozen=True)
class Made:
    """How many pictures lie in the folders now."""

    train: int
    val: int
    classes: int
    notes: tuple[str, ...]


def prepare(src: Path, dst: Path, *, progress: Progress | None = None) -> Made:
    """The class folders of what lies in `src`, in `dst`: those that are there already are counted and left.

    DataError V401 for a folder without the archives, V404 for archives that do not hold what the devkit states.
    """
    there = [name for name in (TRAIN, VAL) if (src / name).is_file()]
    if not there or not (src / DEVKIT).is_file():
        missing = [name for name in (TRAIN, VAL, DEVKIT) if not (src / name).is_file()]
        raise DataError("V401", f"`{src}` lacks {', '.join(missing)}", hint=f"put them there: {_FETCH}")
    devkit = read_devkit(src / DEVKIT)
    disk.make_folder(dst)
    step = _Steps(progress, sum((src / name).stat().st_size for name in there))
    with locked(dst):
        for part in ("train", "val"):
            disk.remove_leftovers(dst / part)
        train = _train(src / TRAIN, dst / "train", devkit, step) if TRAIN in there else 0
        val = _val(src / VAL, dst / "val", devkit, step) if VAL in there else 0
    notes = [f"{step.made} class folders made, {step.kept} were there"]
    found = (train or sum(devkit.train.values()), val or len(devkit.val), len(devkit.train))
    if found == OFFICIAL:
        notes.append("counts are those of ILSVRC2012")
    else:
        notes.append(f"counts are those that {DEVKIT} states, other than ILSVRC2012's")
    notes += [f"{name} is not in `{src}`: left out" for name in (TRAIN, VAL) if name not in there]
    return Made(train, val, len(devkit.train), tuple(notes))


@dataclass
class _Steps:
    progress: Progress | None
    total: int
    done: int = 0
    made: int = 0
    kept: int = 0

    def pass_by(self, size: int, *, made: bool) -> None:
        self.done += size
        self.made += made
        self.kept += not made
        if self.progress is not None:
            self.progress(self.done, self.total)


def read_devkit(path: Path) -> Devkit:
    """Synsets and validation labels out of the development kit; DataError V404 where they do not stand."""
    with tempfile.TemporaryDirectory() as folder:
        extract(path, Path(folder) / "kit")
        meta = _only(Path(folder) / "kit", "meta.mat", path)
        truth = _only(Path(folder) / "kit", "ILSVRC2012_validation_ground_truth.txt", path)
        records = read_records(disk.read_file(meta, limit=_DEVKIT_BYTES), "synsets", _FIELDS, f"{path}/meta.mat")
        lines = disk.read_file(truth, limit=_DEVKIT_BYTES).decode("ascii", "replace").split()
    synsets: dict[int, str] = {}
    counts: dict[str, int] = {}
    for record in records:
        number, wnid, children, count = (record[field] for field in _FIELDS)
        if children not in (0, 0.0):
            continue  # a synset above the classes
        if not (isinstance(number, float) and isinstance(wnid, str) and isinstance(count, float)):
            raise DataError("V404", f"`{path}`: meta.mat has a synset without number, name or count", hint=_FETCH)
        if not re.fullmatch(r"n\d{8}", wnid) or int(number) in synsets or wnid in counts:
            raise DataError("V404", f"`{path}`: meta.mat has the synset `{wnid}` twice, or no name", hint=_FETCH)
        synsets[int(number)], counts[wnid] = wnid, int(count)
    wrong = [line for line in lines if not line.isdecimal() or int(line) not in synsets]
    if not synsets or not lines or wrong:
        what = f"the ground truth names {len(wrong)} numbers that meta.mat does not have, of {len(lines)}"
        raise DataError("V404", f"`{path}`: {what}", evidence=wrong[:5], hint=_FETCH)
    return Devkit(counts, tuple(synsets[int(line)] for line in lines))


def _only(folder: Path, name: str, devkit: Path) -> Path:
    found = [path for path in folder.rglob(name) if "__MACOSX" not in path.parts]
    if len(found) != 1:
        raise DataError("V404", f"`{devkit}` holds `{name}` {len(found)} times", hint=_FETCH)
    return found[0]


def _train(path: Path, into: Path, devkit: Devkit, step: _Steps) -> int:
    file = ranges(path)
    seen: set[str] = set()
    with as_data(), file.opened() as read:
        for member in tar.members(read, path):
            wnid = member.name.removeprefix("./").removesuffix(".tar")
            if member.kind == "folder":
                continue
            if member.kind != "file" or wnid not in devkit.train or wnid in seen:
                raise DataError("V404", f"`{path}`: the member `{member.name}` is no class of the devkit", hint=_FETCH)
            seen.add(wnid)
            made = _class(*_inner(read, member, path), path / wnid, into / wnid, devkit.train[wnid])
            step.pass_by(member.size, made=made)
    _complete(path, seen, set(devkit.train))
    return sum(devkit.train.values())


def _inner(read: Read, member: tar.Member, path: Path) -> tuple[Read, Members]:
    """What reads a tar inside a tar, and its members."""

    def inside(offset: int, length: int) -> bytes:
        return read(member.start + offset, max(0, min(length, member.size - offset)))

    return inside, lambda: [one for one in tar.members(inside, path / member.name) if one.kind != "folder"]


def _val(path: Path, into: Path, devkit: Devkit, step: _Steps) -> int:
    file = ranges(path)
    by_class: dict[str, dict[int, tar.Member]] = {}
    with as_data(), file.opened() as read:
        for member in tar.members(read, path):
            match = re.fullmatch(r"(?:\./)?(?:val/)?(ILSVRC2012_val_(\d{8})\.JPEG)", member.name)
            if member.kind == "folder":
                continue
            number = int(match[2]) if match else 0
            if match is None or member.kind != "file" or not 1 <= number <= len(devkit.val):
                raise DataError("V404", f"`{path}`: the member `{member.name}` is no validation picture", hint=_FETCH)
            mine = by_class.setdefault(devkit.val[number - 1], {})
            if number in mine:
                raise DataError("V404", f"`{path}`: the member `{member.name}` comes twice", hint=_FETCH)
            mine[number] = member._replace(name=match[1])
        stated = Counter(devkit.val)
        _complete(path, set(by_class), set(stated))
        for wnid, members in sorted(by_class.items()):
            files = [members[number] for number in sorted(members)]
            made = _class(read, files.copy, path / wnid, into / wnid, stated[wnid])
            step.pass_by(sum(one.size for one in files), made=made)
    return len(devkit.val)


def _class(read: Read, members: Members, place: Path, into: Path, count: int) -> bool:
    """Make the folder of a class and say so; False where it stands already. DataError V404 for another count."""
    if into.is_dir():
        _counted(len(os.listdir(into)), count, into, "remove this folder, and run again")
        return False
    files = members()
    _counted(len(files), count, place, _FETCH)
    extract_members(read, place, files, into)
    return True


def _counted(found: int, stated: int, place: Path, hint: str) -> None:
    if found != stated:
        raise DataError("V404", f"`{place}` holds {found:,} pictures, the devkit states {stated:,}", hint=hint)


def _complete(path: Path, found: set[str], stated: set[str]) -> None:
    missing = sorted(stated - found)
    if missing:
        raise DataError(
            "V404", f"`{path}` lacks {len(missing)} of {len(stated)} classes", evidence=missing[:5], hint=_FETCH
        )
