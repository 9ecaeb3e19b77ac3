"""What an offline program is run over: a folder of records, or pictures as they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.data.loader import evaluation_batches
from vitrail.data.reading import unreadable
from vitrail.data.sources import Source
from vitrail.disk import read_file
from vitrail.errors import DataError, read_fault
from vitrail.offline.layout import IMAGES, read_packed, refuse_doubled, result_name
from vitrail.offline.pack import REPAIR, record_bytes
from vitrail.pictures.policy import Policy

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Inputs:
    """The inputs in their order. files: as a log shows them; results: what holds the answer to each.

    read() gives each as float32 (1, C, H, W), and may be called once more.
    """

    files: tuple[str, ...]
    results: tuple[str, ...]
    read: Callable[[], Iterator[Images]]


def records(place: Path, policy: Policy, classes: tuple[str, ...] | None) -> Inputs:
    """All files of a folder and of the folders in it, by path, each one picture; or those of its `img_data`.

    classes: of the model; None where it names none. DataError V401 to V404: none there, of another length than the
    policy's, packed otherwise or for other classes.
    """
    folder = place / IMAGES if (place / IMAGES).is_dir() else place
    _refuse_other(folder.parent, policy, classes)
    files = _files(folder)
    names = [path.name for path in files]
    refuse_doubled(names, str(folder))
    size, shape = record_bytes(policy), (1, policy.channels, *policy.size)
    _check_lengths(files, size, shape)

    def read() -> Iterator[Images]:
        for path in files:
            data = read_file(path, limit=size)
            if len(data) != size:
                raise _length([f"{path}: {len(data):,} bytes"], size, shape)
            yield np.frombuffer(data, "<f4").astype(np.float32, copy=False).reshape(shape)

    return Inputs(tuple(map(str, files)), tuple(map(result_name, names)), read)


def pictures(source: Source, indices: NDArray[np.int64], policy: Policy) -> Inputs:
    """Pictures of a source, prepared as the policy says. DataError V404 for two of one name; while reading, V406."""
    titles = [source.title(int(index)) for index in indices]
    names = [title.rsplit("/", 1)[-1] for title in titles]
    refuse_doubled(names, source.place)

    def read() -> Iterator[Images]:
        for batch in evaluation_batches(source, indices, policy, batch=1, workers=2):
            if batch.bad:
                raise unreadable(batch.bad, 1, source.place, way=REPAIR)
            yield batch.images

    return Inputs(tuple(f"{source.place}/{title}" for title in titles), tuple(map(result_name, names)), read)


def _files(folder: Path) -> list[Path]:
    """Of a folder and of those one level below, as the packages' programs took them."""
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir())
        files = [path for place in (folder, *below) for path in place.iterdir() if not path.is_dir()]
    except OSError as error:
        raise read_fault(error, folder) from error
    if not files:
        raise DataError("V401", f"no records in `{folder}`", hint="name the folder that `vitrail offline pack` made")
    return sorted(files, key=os.fsencode)


def _check_lengths(files: list[Path], size: int, shape: tuple[int, ...]) -> None:
    """All of them before the first is answered."""
    wrong = []
    for path in files:
        try:
            if (found := path.stat().st_size) != size:
                wrong.append(f"{path}: {found:,} bytes")
        except OSError as error:
            raise read_fault(error, path) from error
    if wrong:
        raise _length(wrong, size, shape)


def _length(wrong: list[str], size: int, shape: tuple[int, ...]) -> DataError:
    return DataError(
        "V404",
        f"{len(wrong):,} files are no records: one has {size:,} bytes, float32 {shape[1:]}",
        evidence=wrong[:5],
        hint="pack the pictures again for this model, and keep other files out of the folder",
    )


def _refuse_other(folder: Path, policy: Policy, classes: tuple[str, ...] | None) -> None:
    packed = read_packed(folder)
    if packed is None:
        return
    if packed.policy != policy:
        theirs, ours = {} if packed.policy is None else packed.policy.to_json(), policy.to_json()
        raise DataError(
            "V404",
            f"the records in `{folder}` were prepared otherwise than the model wants its pictures",
            evidence=[
                f"{key}: {theirs.get(key)} packed, {ours[key]} wanted" for key in ours if theirs.get(key) != ours[key]
            ],
            hint="pack them with --model MODEL; or say the same policy.key=value here",
        )
    if classes is not None and packed.classes != classes:
        raise DataError(
            "V403",
            f"the labels in `{folder}` count other classes than the model's, or in another order",
            evidence=[f"packed: {', '.join(packed.classes[:5])}", f"model: {', '.join(classes[:5])}"],
            hint="pack them with --model MODEL: labels are then put into its order by name",
        )
