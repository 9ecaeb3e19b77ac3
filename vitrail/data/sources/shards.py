"""Tar shards in the WebDataset convention: `KEY.jpg` beside `KEY.cls`, `KEY.json` or `KEY.txt` in `000000.tar` and on.

Understood: a folder with shards (also in `train` and `val` below it), one shard, or a pattern with a range in braces
(`shard-{000000..000012}.tar`). A word of their path says which are held out. Labels are numbers or names; what numbers
are called stands in a `classes.txt` or `classes.json` beside the shards. Offsets are read once, then a picture is one
read: the order of an epoch is ours, and no shard is ever read through.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitrail.data.configs import Data
from vitrail.data.sources.found import Found
from vitrail.data.sources.labelled import Label, in_rows, label_of, names_beside, numbered, parts_of, with_val
from vitrail.errors import DataError, PictureError, VitrailError, count
from vitrail.formats import json
from vitrail.formats.archives import archive_kind
from vitrail.formats.ranges import Ranges, as_data, ranges
from vitrail.formats.webdataset import Sample, has_samples, samples
from vitrail.pictures.limits import ENDINGS

BEGUN, MANIFEST = ".packing", "shards.json"  # of `data pack`: there from its begin, and from its end
LABELS = (".cls", ".json", ".txt")
JSON_KEYS = ("label", "cls", "class", "class_id", "class_name")
_EXPECTED = "expected KEY.jpg and KEY.cls (or .json, .txt) beside each other in each tar"
_THREADS = 8
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_here(root: str) -> bool:
    """Whether `root` is a pattern of shards, a folder with nothing but tars, or a tar with labels inside."""
    place = Path(root)
    if not place.exists():
        return _BRACES.search(root) is not None
    if place.is_dir():
        return bool(_below(place))
    try:
        return archive_kind(place) == "tar" and has_samples(ranges(place), ENDINGS, LABELS)
    except VitrailError:
        return False  # a tree of files then, which says what is wrong with it


def find(data: Data) -> Found:
    """All samples of `data.root`, and those of `data.val` held out. DataError V401 to V405."""
    return with_val(_find, data)


def _find(data: Data) -> Found:
    root = data.root or "."
    shards, beside = shard_files(root)
    parts = parts_of([os.path.relpath(shard, beside) for shard in shards], root, first=data.held_out)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="shards") as pool:
        files = list(pool.map(ranges, shards))
        found = dict(zip(parts.used, pool.map(lambda number: _read(files[number]), parts.used), strict=True))
    rows = [(number, sample) for number in parts.used for sample, _ in found[number]]
    if not rows:
        raise DataError("V401", f"no pictures in the {len(shards)} shards of `{root}`", hint=_EXPECTED)
    words = [label for number in parts.used for _, label in found[number]]
    labelled = numbered(words, names_beside(beside), data)

    def title(index: int) -> str:
        number, sample = rows[index]
        return f"{os.path.relpath(shards[number], beside)}/{sample.name}"

    def picture(index: int) -> bytes:
        number, sample = rows[index]
        try:
            return files[number].read(sample.start, sample.size)
        except VitrailError as error:
            raise PictureError("V304", f"`{title(index)}`: {error.what}", hint=error.hint) from error

    counts = [len(found[number]) for number in parts.used]
    made = in_rows(root, labelled, parts, counts, picture=picture, title=title)
    return replace(
        made,
        notes=(count(len(shards), "tar shard"), *made.notes),
        sizes=np.array([sample.size for _, sample in rows], np.int64),
    )


def shard_files(root: str) -> tuple[list[Path], Path]:
    """The shards that `root` means, by the bytes of their names, and the folder beside which they are named.

    DataError V401 where there are none, V402 for a range in braces that does not fit, V404 for a stopped packing.
    """
    shards = _shards(root)
    beside = shards[0].parent if not Path(root).is_dir() else Path(root)
    if (beside / BEGUN).exists() and not (beside / MANIFEST).exists():
        raise DataError("V404", f"the packing of `{beside}` was stopped", hint="run its `vitrail data pack` again")
    return shards, beside


def _shards(root: str) -> list[Path]:
    place = Path(root)
    if not place.exists() and _BRACES.search(root):
        found = list(_expanded(root))
        absent = [str(path) for path in found if not path.is_file()]
        if absent:
            what = f"{len(absent)} of {len(found)} shards of `{root}` are not there"
            raise DataError("V402", what, evidence=absent[:5], hint="check the range in braces")
        return found
    found = [place] if place.is_file() else _below(place) if place.is_dir() else []
    if not found:
        raise DataError("V401", f"no tar shards in `{root}`", hint=_EXPECTED)
    return found


def _expanded(pattern: str) -> Iterator[Path]:
    match = _BRACES.search(pattern)
    if match is None:
        yield Path(pattern)
        return
    first, last = int(match[1]), int(match[2])
    if not 0 <= last - first < 1_000_000:
        raise DataError(
            "V402", f"the range {match[0]} in `{pattern}` is empty or endless", hint="as in {000000..000012}"
        )
    for number in range(first, last + 1):
        yield from _expanded(f"{pattern[: match.start()]}{number:0{len(match[1])}d}{pattern[match.end() :]}")


def _below(place: Path) -> list[Path]:
    """Tars in a folder and in the folders right below it; none where such a folder holds no tar."""
    entries = [entry for entry in place.iterdir() if entry.name[0] != "."]
    found = [path for path in entries if path.suffix == ".tar" and path.is_file()]
    for folder in (entry for entry in entries if entry.is_dir()):
        inside = [path for path in folder.iterdir() if path.suffix == ".tar" and path.is_file()]
        if not inside:
            return []
        found += inside
    return sorted(found, key=os.fsencode)


def _read(file: Ranges) -> list[tuple[Sample, Label]]:
    with as_data():
        return [(replace(sample, label=b""), _label(sample, file)) for sample in samples(file, ENDINGS, LABELS)]


def _label(sample: Sample, file: Ranges) -> Label:
    where = f"{file.path}/{sample.name}"
    if sample.label_ending != ".json":
        return label_of(sample.label, where)
    try:
        value = json.loads(sample.label)
    except ValueError as error:
        raise DataError("V404", f"the label of `{where}` is no JSON: {error}", hint="pack it again") from error
    if isinstance(value, dict):
        value = next((value[key] for key in JSON_KEYS if key in value), None)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError("V404", f"the JSON of `{where}` has no label", hint=f"name it {', '.join(JSON_KEYS[:3])}")
    return value if isinstance(value, int) else label_of(value.encode("utf-8", "replace"), where)
