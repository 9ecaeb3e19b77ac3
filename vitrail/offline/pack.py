"""Pictures and labels written as the files that an offline program reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.data.loader import evaluation_batches
from vitrail.data.reading import unreadable
from vitrail.data.sources import Source
from vitrail.disk import free_space, make_folder, new_folder
from vitrail.errors import DataError, SystemFault, UsageError
from vitrail.formats import json
from vitrail.offline.layout import IMAGES, LABEL_FILE, LABELS, LIMIT, MANIFEST, RECORD, Dataset, Packed, refuse_doubled
from vitrail.pictures.policy import Policy

AT_ONCE = 32  # pictures prepared together
_BLOCK = 4096  # what a small file takes on most disks
REPAIR = "other pictures: `vitrail data audit` lists the bad ones, `vitrail evaluate` counts them as wrong"


def planned(source: Source, indices: NDArray[np.int64], policy: Policy | None, dataset: Dataset) -> Packed:
    """What packing these pictures of a source would give. policy: of records; labels alone have none.

    DataError V401 where there is no picture.
    """
    assert policy is not None or dataset == "imagenet2012"
    if not len(indices):
        raise DataError("V401", f"no pictures to pack in `{source.place}`", hint="give another --part")
    digest = hashlib.sha256(source.fingerprint.encode())
    digest.update(indices.astype("<i8").tobytes())
    digest.update(source.labels[indices].astype("<i8").tobytes())
    taken = policy if dataset == "cifar10" else None
    return Packed(dataset, len(indices), source.classes, taken, digest.hexdigest())


def pack(
    source: Source,
    indices: NDArray[np.int64],
    packed: Packed,
    out: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """The folder `out` with what `packed` plans, whole or not at all.

    UsageError V006 where `out` holds something, DataError V406 for pictures that cannot be read and V404 for two of one
    name, SystemFault V701 where the disk is too small.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError("V006", f"`{out}` is there already", hint="give a new folder, or remove it")
    table = _table(source, indices) if packed.policy is None else b""
    if packed.policy is not None:
        _refuse_full(out, packed, packed.policy)
    with new_folder(out, many=True) as folder:
        if packed.policy is not None:
            _records(source, indices, packed.policy, folder, progress)
        else:
            (folder / LABEL_FILE).write_bytes(table)
            progress(len(indices), len(indices))
        (folder / MANIFEST).write_bytes(json.dumps(packed.to_json(), indent=1) + b"\n")


def _table(source: Source, indices: NDArray[np.int64]) -> bytes:
    """{file name: label} of pictures, as scoring will read it."""
    names = [source.title(int(index)).rsplit("/", 1)[-1] for index in indices]
    refuse_doubled(names, source.place)
    table = json.dumps(dict(zip(names, source.labels[indices].tolist(), strict=True)))
    try:
        json.loads(table, limit=LIMIT)
    except ValueError as error:
        raise DataError(
            "V404", f"the labels of `{source.place}` are too many for one table: {error}", hint="pack fewer pictures"
        ) from error
    return table


def record_bytes(policy: Policy) -> int:
    """Bytes of one picture as a record."""
    return 4 * policy.channels * policy.size[0] * policy.size[1]


def _refuse_full(out: Path, packed: Packed, policy: Policy) -> None:
    make_folder(out.absolute().parent)
    each = -(-record_bytes(policy) // _BLOCK) + 1
    need, free = packed.pictures * each * _BLOCK, free_space(out.absolute().parent)
    if need > free:
        raise SystemFault(
            "V701",
            f"`{out}` would take {need / 1e9:,.2f} GB, {free / 1e9:,.2f} GB are free",
            evidence=[f"{packed.pictures:,} pictures of {record_bytes(policy):,} bytes"],
            hint="give a folder on a larger disk, or fewer pictures",
        )


def _records(
    source: Source, indices: NDArray[np.int64], policy: Policy, folder: Path, progress: Callable[[int, int], None]
) -> None:
    for name in (IMAGES, LABELS):
        (folder / name).mkdir()
    number = 0
    for batch in evaluation_batches(source, indices, policy, batch=AT_ONCE, workers=2):
        if batch.bad:
            raise unreadable(batch.bad, len(batch.indices), source.place, way=REPAIR)
        images, labels = batch.images.astype("<f4", copy=False), batch.labels.astype("<i4")
        for image, label in zip(images, labels, strict=True):
            name = RECORD.format(number)
            (folder / IMAGES / name).write_bytes(image.tobytes())
            (folder / LABELS / name).write_bytes(label.tobytes())
            number += 1
        progress(number, len(indices))
    assert number == len(indices)
